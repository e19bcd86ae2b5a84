"""What can go wrong on this machine, each as one sentence for a person and an exit code."""


class LocalError(Exception):
    """A fault that a person can mend; `exit_code` is what the command ends with."""

    exit_code = 1


class PortBusy(LocalError):
    """Somebody else listens on the port that was asked for."""

    exit_code = 10


class DiskFull(LocalError):
    """Too little free space to start a broker and a database safely."""

    exit_code = 11


class HomeLocked(LocalError):
    """Another supervisor already runs this instance folder."""

    exit_code = 12


class DownloadFailed(LocalError):
    """A jar could not be fetched, or is not the one that was locked."""

    exit_code = 13


class StartFailed(LocalError):
    """A child process ended or did not answer while it was being started."""

    exit_code = 14


class NotRunning(LocalError):
    """The command needs a running instance and there is none."""

    exit_code = 15
