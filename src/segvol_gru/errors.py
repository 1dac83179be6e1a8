"""The one exception type that tells a user what to mend."""


class InputError(ValueError):
    """An argument from outside is not usable.

    The message is one sentence: what came, what was wanted, how to mend it. Nothing has
    changed when it is raised.
    """
