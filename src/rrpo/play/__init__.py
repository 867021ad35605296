"""A page of this machine's own: type a sentence and hear several policies say it (`rrpo play`)."""
