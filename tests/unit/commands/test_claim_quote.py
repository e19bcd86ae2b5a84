"""`yaoda claim quote`: the standard's field names in and out, and rubbish named by its field."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.claim.quoting import policies
from services.commands.claim import main, quotes, schema

PUBLISHED = Path(__file__).parents[3] / "docs" / "claim-quote.schema.json"


def a_request(**changes: Any) -> dict[str, Any]:
    """The worked case, under a policy of its own."""
    policy = {
        "area": "999001",
        "version": "worked",
        "source": "synthetic",
        "effective_from": "2026-01-01",
        "benefits": [
            {
                "kind": "ordinary",
                "insutype": "310",
                "deductible": "100.00",
                "bands": [{"ratio": "0.60"}],
            }
        ],
    }
    request: dict[str, Any] = {
        "id": "worked",
        "policy": policy,
        "person": {"psn_no": "1", "insutype": "310", "psn_type": "11", "balc": "50.00"},
        "druginfo": {
            "mdtrtarea_admvs": "999001",
            "med_type": "41",
            "begntime": "2026-03-01T10:00:00+08:00",
        },
        "drugdetail": [
            line("1", "1", "45.00", "2", pric_uplmt_amt="40.00"),
            line("2", "2", "60.00", "1", selfpay_prop="0.10"),
            line("3", "3", "30.00", "1"),
        ],
    }
    return request | changes


def line(number: str, level: str, price: str, count: str, **more: str) -> dict[str, str]:
    return {"feedetl_sn": number, "chrgitm_lv": level, "pric": price, "cnt": count, **more}


def one(request: Any) -> dict[str, Any]:
    (answer,) = quotes(json.dumps(request))
    return answer


def test_the_worked_case_in_the_fields_of_the_standard() -> None:
    answer = one(a_request())
    wanted = {
        "medfee_sumamt": "180.00",
        "overlmt_selfpay": "10.00",
        "preselfpay_amt": "6.00",
        "fulamt_ownpay_amt": "30.00",
        "inscp_scp_amt": "134.00",
        "act_pay_dedc": "100.00",
        "hifp_pay": "20.40",
        "psn_part_amt": "159.60",
        "acct_pay": "50.00",
        "psn_cash_pay": "109.60",
        "balc": "0.00",
    }
    assert {name: answer["setlinfo"][name] for name in wanted} == wanted
    assert [row["overlmt_amt"] for row in answer["detlcutinfo"]] == ["10.00", "0.00", "0.00"]
    assert answer["setldetail"][0]["fund_pay_type"] == "310101"
    # What the claim used up is what the next one of this year is quoted with.
    person = a_request()["person"] | {"accumulators": answer["accumulators"]}
    assert one(a_request(person=person))["setlinfo"]["act_pay_dedc"] == "0.00"


def test_without_a_policy_the_one_in_force_in_the_area_counts() -> None:
    request = a_request()
    del request["policy"]
    days = {
        "2026-12-31T23:59:59+08:00": "synthetic-2026",
        "2027-01-01T00:00:00+08:00": "synthetic-2027",
    }
    for moment, version in days.items():
        request["druginfo"]["begntime"] = moment
        assert one(request)["policy"]["version"] == version


def test_an_area_without_a_policy_is_refused_by_its_field() -> None:
    request = a_request()
    del request["policy"]
    request["druginfo"]["mdtrtarea_admvs"] = "110101"
    error = one(request)["error"]
    assert (error["code"], error["field"]) == ("no_policy", "druginfo.mdtrtarea_admvs")


@pytest.mark.parametrize(
    ("part", "field", "value", "named"),
    [
        ("druginfo", "begntime", "2026-03-01T10:00:00", "druginfo.begntime"),
        ("druginfo", "acct_used_flag", "yes", "druginfo.acct_used_flag"),
        ("druginfo", "surprise", "1", "druginfo.surprise"),
        ("person", "balc", "-1", "person.balc"),
        ("person", "balc", "1.005", "person.balc"),
        ("person", "balc", 1.5, "person.balc"),
    ],
)
def test_rubbish_is_named_by_its_field(part: str, field: str, value: Any, named: str) -> None:
    request = a_request()
    request[part] = request[part] | {field: value}
    assert one(request)["error"]["field"] == named


@pytest.mark.parametrize(
    ("field", "value"),
    [("cnt", "0"), ("pric", "1.00001"), ("chrgitm_lv", "4"), ("selfpay_prop", "2")],
)
def test_rubbish_in_a_line_is_named_with_the_line(field: str, value: str) -> None:
    error = one(a_request(drugdetail=[line("1", "1", "1.00", "1") | {field: value}]))["error"]
    assert error["field"] == f"drugdetail.0.{field}"


def test_bands_that_do_not_rise_are_refused() -> None:
    policy = a_request()["policy"]
    policy["benefits"][0]["bands"] = [{"ratio": "0.5"}, {"up_to": "10.00", "ratio": "0.6"}]
    error = one(a_request(policy=policy))["error"]
    assert error["code"] == "bad_policy"
    assert "bands must rise" in error["detail"]


def test_a_bad_line_of_a_file_stops_no_other_one() -> None:
    text = f"{json.dumps(a_request())}\n{{nonsense\n\n{json.dumps(a_request(id='last'))}\n"
    rows = list(quotes(text))
    assert [row["line"] for row in rows] == [1, 2, 4]
    assert rows[1]["error"]["code"] == "no_json"
    assert rows[2]["id"] == "last"
    assert "setlinfo" in rows[2]


def test_a_list_of_claims_is_quoted_one_by_one() -> None:
    assert [row["id"] for row in quotes(json.dumps([a_request(), a_request(id="b")]))] == [
        "worked",
        "b",
    ]


def test_the_command_says_by_its_exit_code_whether_all_were_quoted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(a_request()))
    bad.write_text(json.dumps(a_request(drugdetail=[])))
    assert (main(["quote", str(good)]), main(["quote", str(bad)])) == (0, 1)
    assert [json.loads(row)["line"] for row in capsys.readouterr().out.splitlines()] == [1, 1]


def test_the_published_schema_is_the_one_that_is_checked() -> None:
    """After a change: `./yaoda claim quote --schema > docs/claim-quote.schema.json`."""
    assert PUBLISHED.read_text(encoding="utf-8") == schema() + "\n"


def test_every_policy_of_the_product_is_labelled_and_whole() -> None:
    for policy in policies():
        assert policy.source.startswith("synthetic")
        assert all(0 < band.ratio_ppm <= 1_000_000 for b in policy.benefits for band in b.bands)


def test_a_bad_policy_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('[[policy]]\narea = "1"\n')
    with pytest.raises(ValueError, match=r"bad\.toml"):
        policies(tmp_path)


def test_amounts_may_be_whole_numbers() -> None:
    request = a_request(drugdetail=[line("1", "1", "1.00", "1") | {"pric": 45, "cnt": 2}])
    assert Decimal(one(request)["setlinfo"]["medfee_sumamt"]) == 90


def changed(request: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The request with one field as somebody else would write it."""
    inner: Any = request
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return request


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("drugdetail", 0, "pric"), "4_5", "plain digits"),
        (("drugdetail", 0, "pric"), " 45 ", "plain digits"),
        (("drugdetail", 0, "pric"), "\uff14\uff15", "plain digits"),
        (("drugdetail", 0, "cnt"), "1E5", "plain digits"),
        (("drugdetail", 0, "cnt"), "NaN", "plain digits"),
        (("drugdetail", 1, "feedetl_sn"), "1", "stands twice"),
        (("druginfo", "mdtrtarea_admvs"), "\uff19\uff19\uff19\uff10\uff10\uff11", "pattern"),
        (("druginfo", "begntime"), "0001-01-01T00:00:00+14:00", "1900"),
        (("druginfo", "begntime"), "9999-12-31T23:59:59Z", "9000"),
        (("druginfo", "setl_time"), "2026-02-28T10:00:00+08:00", "before begntime"),
        (("policy", "area"), "110000", "does not hold"),
        (("policy", "effective_from"), "2026-03-02", "not in force on 2026-03-01"),
        (("policy", "effective_to"), "2026-02-28", "not in force on 2026-03-01"),
    ],
)
def test_what_a_stranger_may_write_is_refused_by_its_field(
    path: tuple[Any, ...], value: Any, words: str
) -> None:
    answer = one(changed(a_request(), path, value))
    assert words in answer["error"]["detail"]


def test_a_policy_of_the_province_may_be_given_for_its_county() -> None:
    answer = one(changed(a_request(), ("policy", "area"), "990000"))
    assert answer["policy"]["area"] == "990000"


# Per case: what is changed, and of the head the fund's, account's, family's and cash part.
EDGES: dict[str, tuple[tuple[Any, ...], Any, tuple[str, str, str, str]]] = {
    "no ceiling left at all": (
        ("policy", "benefits", 0, "ceiling"), "0.00", ("0.00", "50.00", "0.00", "130.00")
    ),
    "a price limit above the price": (
        ("drugdetail", 0, "pric_uplmt_amt"), "50.00", ("26.40", "50.00", "0.00", "103.60")
    ),
    "a price limit of nothing": (
        ("drugdetail", 0, "pric_uplmt_amt"), "0", ("0.00", "50.00", "0.00", "130.00")
    ),
    "all in cash": (("druginfo", "acct_used_flag"), "0", ("20.40", "0.00", "0.00", "159.60")),
    "a family account": (
        ("person", "acct_mulaid_balc"), "70.00", ("20.40", "120.00", "70.00", "39.60")
    ),
    "medical aid of half": (
        ("policy", "supplements"),
        [{"kind": "maf_pay", "insutypes": ["310"], "threshold": "0.00", "ratio": "0.5"}],
        ("77.20", "50.00", "0.00", "52.80"),
    ),
    "medical aid without a fen left": (
        ("policy", "supplements"),
        [
            {
                "kind": "maf_pay", "insutypes": ["310"], "threshold": "0.00", "ratio": "1",
                "ceiling": "0.00",
            }
        ],
        ("20.40", "50.00", "0.00", "109.60"),
    ),
    "the last day of a year": (
        ("druginfo", "begntime"), "2026-12-31T23:59:59+08:00",
        ("20.40", "50.00", "0.00", "109.60"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(EDGES))
def test_edges_of_a_policy_come_out_to_the_cent(case: str) -> None:
    path, value, parts = EDGES[case]
    answer = one(changed(a_request(), path, value))
    names = ("fund_pay_sumamt", "acct_pay", "acct_mulaid_pay", "psn_cash_pay")
    assert tuple(answer["setlinfo"][name] for name in names) == parts
    assert list(answer["accumulators"]) == ["2026"]


@pytest.mark.parametrize(
    ("settled", "version", "year"),
    [
        ("2026-12-31T15:59:59.999999Z", "sandbox-2026", "2026"),
        ("2026-12-31T16:00:00Z", "sandbox-2027", "2027"),
    ],
)
def test_midnight_in_china_changes_year_and_policy(settled: str, version: str, year: str) -> None:
    request = a_request() | {"policy": None}
    request["druginfo"] |= {
        "mdtrtarea_admvs": "990101",
        "begntime": "2026-12-31T10:00:00+08:00",
        "setl_time": settled,
    }
    answer = one(request)
    assert (answer["policy"]["version"], list(answer["accumulators"])) == (version, [year])
