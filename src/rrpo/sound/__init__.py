"""Reading sound files: whole by their header, one channel, noted where odd."""
