"""The `yaoda` command."""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import typer

from services.local.errors import LocalError
from services.local.paths import default_home

NOT_OFFERED_YET = 3
# Commands that live beside what they command; each module has `main(argv) -> int | None`.
ELSEWHERE: dict[str, tuple[str, str]] = {
    "replay": ("services.sandbox.replay", "Send a day of orders through a fresh system."),
    "check": ("services.commands.check", "Check the invariants over all tables and topics."),
    "submit": ("services.commands.submit", "Submit prescriptions from a file."),
    "watch": ("services.commands.watch", "Follow one order."),
    "dlq": ("services.commands.dlq", "List, show, correct and redrive parked messages."),
    "audit": ("services.commands.audit", "Walk the audit's hash chains."),
    "doctor": ("services.commands.doctor", "Say what is wrong and what to do."),
    "backup": ("services.commands.backup", "Back the database up, or rehearse its loss."),
    "restore": ("services.commands.restore", "Make a new instance from a backup."),
    "prune": ("services.commands.prune", "Let go of copies of facts that are old."),
    "contract": ("services.commands.contract", "Write schemas and samples from the models."),
    "city": ("services.commands.city", "Check and load packs of cities, import pharmacies."),
    "review": ("services.commands.review", "Run the rule engine over prescriptions, no server."),
    "catalogue": ("services.commands.catalogue", "Check, search and grow the drug catalogue."),
    "claim": ("services.commands.claim", "Run the settlement arithmetic over claims, no server."),
    "chaos": ("services.commands.chaos.command", "Break a live system on purpose, and check it."),
    "dispatch": ("services.commands.dispatch", "Say why an order went to its pharmacy."),
    "simulate": ("services.commands.simulate", "Run a whole day in memory, with what-if changes."),
    "bench": ("services.commands.bench", "Run a benchmark with its control."),
}
HOME = default_home()
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False
)
Home = Annotated[Path, typer.Option("--home", help="The instance folder.", show_default=False)]
Port = Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Of the web pages.")]


@app.command()
def demo(home: Home = HOME, port: Port = None) -> None:
    """Run everything with a city's orders flowing, until Ctrl-C."""
    from services.commands import system

    system.demo(home.resolve(), port)


@app.command()
def up(
    home: Home = HOME,
    port: Port = None,
    detach: Annotated[bool, typer.Option(help="Return once all is ready.")] = False,
) -> None:
    """Run the services without traffic, until Ctrl-C."""
    from services.commands import system

    (system.up_detached if detach else system.up)(home.resolve(), port)


@app.command()
def down(home: Home = HOME) -> None:
    """Stop what runs in the background."""
    from services.commands import system

    system.down(home.resolve())


@app.command()
def status(home: Home = HOME, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Show each process with pid, port, readiness and lag."""
    from services.commands import system

    raise typer.Exit(system.status(home.resolve(), as_json))


@app.command()
def topics() -> None:
    """Show which fact stands on which topic, who writes it and who reads it."""
    from schemas.flow import ROUTES

    for route in ROUTES:
        readers = ", ".join(route.consumers) or "-"
        print(f"{route.topic:<24} {route.event.__name__:<24} {route.producer} -> {readers}")


@app.command("test", context_settings={**PASS_ON, "help_option_names": ["--help"]})
def run_tests(
    context: typer.Context,
    long: Annotated[bool, typer.Option("--long", help="Add seeds, soak and outages.")] = False,
) -> None:
    """Run all checks and tests; with further arguments, only pytest with these."""
    from services.commands import testing

    raise typer.Exit(testing.run(context.args, long))


def _offer(name: str, module: str, purpose: str) -> None:
    def command(context: typer.Context) -> None:
        raise typer.Exit(_run_elsewhere(name, module, context.args))

    app.command(name, help=purpose, context_settings=PASS_ON)(command)


def _run_elsewhere(name: str, module: str, arguments: list[str]) -> int:
    if importlib.util.find_spec(module) is None:
        print(f"yaoda: `{name}` is not offered yet", file=sys.stderr)
        return NOT_OFFERED_YET
    return importlib.import_module(module).main(arguments) or 0


for _name, (_module, _purpose) in ELSEWHERE.items():
    _offer(_name, _module, _purpose)


def main() -> None:
    """Run the command; a fault that a person can mend is one sentence and an exit code."""
    try:
        app(prog_name="yaoda")
    except LocalError as error:
        print(f"yaoda: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
