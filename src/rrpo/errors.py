"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """A mistake in what the user gave: files, options, configuration.

    The message is one line that says what is wrong, where, and how to mend it. The command line
    prints it and exits with code 2; nothing else in the package is caught that way.
    """


class NotFinite(UserError):
    """Scores or losses that are NaN or infinite; while training the loop adds step and way out."""
