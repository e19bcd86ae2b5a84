"""A drug by any name that somebody wrote: also with its salt, its form, or how it was prepared."""

from services.review.rules.case import Drug
from services.review.rules.drugs import Drugs


def called(drugs: Drugs, text: str, way: str = "") -> Drug:
    """The drug of a name as it stands, else of a plainer one; unknown when there is none."""
    found = drugs.by_name(text, way)
    if found.known:
        return found
    for spelt in drugs.catalogue.spellings.plainer(text.strip()):
        plain = drugs.by_name(spelt.name, way or spelt.way)
        if plain.known and (plain.herbal or not spelt.piece):
            return plain
    return found
