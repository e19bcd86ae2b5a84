"""Names as people write them lead to what the catalogue knows, and to nothing else."""

import pytest

from services.catalogue import WrongCatalogue, catalogue, content_of, read
from services.catalogue.spelling import Spellings


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("华法林片", "warfarin"),
        ("达比加群酯胶囊", "dabigatran etexilate"),
        ("盐酸氟西汀分散片", "fluoxetine"),
        ("异丙肾上腺素片", "isoprenaline"),
        ("丙戊酸钠缓释片", "valproic acid"),
        ("注射用青霉素钠", "benzylpenicillin"),
        ("左氧氟沙星氯化钠注射液", "levofloxacin"),
        ("卡前列甲酯栓", "carboprost methylate"),
        ("Metformin Hydrochloride  Tablets", "metformin"),
        ("amlodipine besylate", "amlodipine"),
        ("cefpodoxime proxetil", "cefpodoxime"),
        ("制附子", "prepared aconite"),
        ("生地黄", "rehmannia root"),
        # What stands in the catalogue itself is never taken for anything plainer.
        ("硝酸甘油片", "glyceryl trinitrate"),
        ("单硝酸异山梨酯缓释片", "isosorbide mononitrate"),
        ("生半夏", "raw pinellia rhizome"),
    ],
)
def test_salt_form_and_preparation_may_stand_in_a_name(written: str, key: str) -> None:
    found = catalogue().understood(written)
    assert found is not None
    assert [item.key for item in found.substances] == [key]


@pytest.mark.parametrize(
    "written", ["复方可待因口服溶液", "某种白色药片", "片", "注射液", "炒", "盐酸", "", "制华法林"]
)
def test_what_nobody_knows_stays_unknown(written: str) -> None:
    assert catalogue().understood(written) is None


def test_the_form_tells_the_way_in() -> None:
    ways = {
        next(iter(catalogue().spellings.plainer(name))).way
        for name in ("西地那非片", "西地那非乳膏", "西地那非注射液", "西地那非栓")
    }
    assert ways == {"oral", "topical", "injection", "rectal"}
    cream = catalogue().understood("红霉素凝胶")
    assert cream is not None
    assert all(not code.startswith("J") for code in cream.atc)


def test_without_words_nothing_is_left_out() -> None:
    assert list(Spellings().plainer("华法林片")) == []


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("片,form_after,oral,nowhere,derived", "spellings.csv:2: source: no such source"),
        ("片,suffix,oral,name-parts,derived", "spellings.csv:2: place"),
        (
            "片,form_after,oral,name-parts,derived\n片,form_after,,name-parts,derived",
            "spellings.csv:3: word: '片' stands twice",
        ),
    ],
)
def test_a_wrong_word_is_named_with_its_line(row: str, said: str) -> None:
    data = f"word,place,way,source,standing\n{row}\n".encode()
    with pytest.raises(WrongCatalogue, match=said):
        read({**content_of(), "spellings.csv": data})
