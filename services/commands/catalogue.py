"""`yaoda catalogue check|find|grow`: the drug catalogue at a desk, without a server."""

import argparse
import sys
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import services.catalogue
from services.catalogue import Reading, WrongCatalogue, catalogue, read_folder
from services.catalogue.generator import INSTRUCTIONS, generated, products_file
from services.catalogue.search import Search
from services.local.errors import LocalError

FLAWED = 1


class NoFolder(LocalError):
    """The folder is not there."""

    exit_code = 4


def main(argv: Sequence[str]) -> int:
    """0 when it was done, 1 when the files have flaws. Raises LocalError with one sentence."""
    options = _parser().parse_args(list(argv))
    match options.action:
        case "check":
            return _check(options.folder, options.partial)
        case "find":
            return _find(" ".join(options.words))
        case _:
            return _grow(options.folder, options.rows, options.seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="yaoda catalogue", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    check = actions.add_parser("check", help="Read a folder, name every flaw by file, line, field.")
    check.add_argument("folder", type=Path)
    check.add_argument("--partial", action="store_true", help="leave out only what is wrong")
    find = actions.add_parser("find", help="Search: Chinese, initials of the pinyin, English.")
    find.add_argument("words", nargs="+")
    grow = actions.add_parser("grow", help="Write a folder with invented packs on top, by seed.")
    grow.add_argument("folder", type=Path)
    grow.add_argument("--rows", type=int, default=INSTRUCTIONS)
    grow.add_argument("--seed", type=int, default=1)
    return parser


def _check(folder: Path, partial: bool) -> int:
    if not folder.is_dir():
        raise NoFolder(f"there is no folder {folder}")
    began = time.perf_counter()
    try:
        found = read_folder(folder, partial)
    except WrongCatalogue as error:
        for flaw in error.flaws:
            print(flaw, file=sys.stderr)
        print(f"nothing was taken: {len(error.flaws)} flaws", file=sys.stderr)
        return FLAWED
    _report(found, time.perf_counter() - began)
    return 0


def _report(found: Reading, seconds: float) -> None:
    for flaw in found.flaws:
        print(f"left out: {flaw}", file=sys.stderr)
    book = found.catalogue
    print(
        f"{book.version}: {len(book)} products, {len(book.substances)} substances, "
        f"{len(found.flaws)} flaws, read in {seconds:.1f} s"
    )


def _find(query: str) -> int:
    for hit in Search(catalogue()).find(query):
        print(f"{hit.generic_name}  {hit.inn}  {hit.form}  {hit.strength}  {hit.product_codes[0]}")
    return 0


def _grow(folder: Path, rows: int, seed: int) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    base = files(services.catalogue).joinpath("data")
    for path in base.iterdir():
        folder.joinpath(path.name).write_bytes(path.read_bytes())
    grown = generated(read_folder(base).catalogue, rows, seed)
    folder.joinpath("products.csv").write_bytes(products_file(grown))
    print(f"{len(grown)} products in {folder}")
    return 0
