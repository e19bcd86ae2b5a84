"""Words that documents use for codes; whatever is not here is said to be unknown."""

TEXT_MAX = 300
LISTED_MAX = 100
DAYS_MAX = 400
NUMBER_MAX = 10_000_000

SEXES: dict[str, str | None] = {
    "1": "1", "male": "1", "m": "1", "男": "1",
    "2": "2", "female": "2", "f": "2", "女": "2",
    "0": None, "9": None, "unknown": None, "未知": None,
}  # fmt: skip
HEPATIC: dict[str, str | None] = {
    "none": "none", "normal": "none", "无": "none", "正常": "none",
    "mild": "mild", "a": "mild", "轻度": "mild",
    "moderate": "moderate", "b": "moderate", "中度": "moderate",
    "severe": "severe", "c": "severe", "重度": "severe",
    "unknown": None, "未知": None,
}  # fmt: skip
# NHSA rx_type_code.
CLASSES: dict[str, str | None] = {
    **{str(code): str(code) for code in range(1, 11)}, "99": "99", "unknown": None, "未知": None,
    "outpatient": "1", "ordinary": "1", "普通": "1", "普通处方": "1", "门诊": "1",
    "emergency": "3", "急诊": "3", "急诊处方": "3",
    "paediatric": "5", "pediatric": "5", "儿科": "5", "儿科处方": "5",
    "narcotic": "7", "麻精一": "7", "麻、精一": "7",
    "psychotropic_2": "8", "精二": "8", "herbal": "9", "饮片": "9", "patent": "10", "中成药": "10",
}  # fmt: skip
# Units of amounts, as people write them; the next list is counted.
MEASURES: dict[str, str] = {
    "mg": "mg", "毫克": "mg", "g": "g", "gm": "g", "克": "g",
    "µg": "µg", "μg": "µg", "ug": "µg", "mcg": "µg", "微克": "µg",
    "u": "U", "iu": "U", "单位": "U", "国际单位": "U", "ml": "mL", "毫升": "mL",
}  # fmt: skip
COUNTED = frozenset({
    "unit", "tablet", "tablets", "tab", "tabs", "capsule", "capsules", "cap", "caps", "pill",
    "pills", "piece", "pieces", "sachet", "sachets", "bag", "bags", "vial", "vials", "ampoule",
    "ampoules", "amp", "drop", "drops", "gtt", "puff", "puffs", "spray", "sprays", "patch",
    "patches", "suppository", "suppositories", "dose", "doses", "application", "applications",
    "lozenge", "lozenges",
    "片", "粒", "颗", "丸", "枚", "袋", "包", "支", "瓶", "滴", "喷", "揿", "吸", "贴", "栓",
    "剂", "次", "付", "副",
})  # fmt: skip
# NHSA drug_medc_way.
ROUTES: dict[str, str | None] = {
    "oral": "1", "po": "1", "口服": "1",
    "rectal": "2", "直肠": "2", "直肠给药": "2",
    "sublingual": "3", "舌下": "3", "舌下含服": "3",
    "injection": "4", "iv": "4", "im": "4", "sc": "4", "注射": "4", "皮下注射": "4",
    "静脉滴注": "4", "静脉注射": "4", "肌内注射": "4", "肌肉注射": "4",
    "inhaled": "5", "inhalation": "5", "吸入": "5",
    "topical": "6", "local": "6", "局部": "6", "外用": "6",
    "vaginal": "605", "阴道": "605", "阴道给药": "605",
    "eye": "607", "ophthalmic": "607", "滴眼": "607",
    "nasal": "608", "nose": "608", "滴鼻": "608",
    "throat": "609", "喷喉": "609",
    "lozenge": "610", "含化": "610",
    "wound": "611", "skin": "612", "皮肤": "612", "transdermal": "612",
}  # fmt: skip
# Form → how it gets in.
WAYS: dict[str, str] = {
    "tablet": "oral",
    "modified-release tablet": "oral",
    "chewable tablet": "oral",
    "sublingual tablet": "sublingual",
    "lozenge": "topical",
    "capsule": "oral",
    "modified-release capsule": "oral",
    "powder": "oral",
    "granules": "oral",
    "pellets": "oral",
    "pills": "oral",
    "oral liquid": "oral",
    "injection": "injection",
    "cream": "topical",
    "ointment": "topical",
    "gel": "topical",
    "lotion": "topical",
    "patch": "transdermal",
    "inhaler": "inhaled",
    "nebuliser solution": "inhaled",
    "nasal spray": "topical",
    "eye drops": "topical",
    "eye ointment": "topical",
    "ear drops": "topical",
    "suppository": "rectal",
    "vaginal tablet": "topical",
    "enema": "rectal",
    "herbal piece": "oral",
}
FORMS: dict[str, str | None] = {
    "tablets": "tablet", "片": "tablet", "片剂": "tablet",
    "缓释片": "modified-release tablet", "控释片": "modified-release tablet",
    "capsules": "capsule", "胶囊": "capsule", "胶囊剂": "capsule",
    "缓释胶囊": "modified-release capsule",
    "颗粒": "granules", "颗粒剂": "granules", "散剂": "powder", "丸剂": "pills",
    "口服液": "oral liquid", "糖浆": "oral liquid", "syrup": "oral liquid",
    "solution": "oral liquid", "suspension": "oral liquid",
    "injections": "injection", "注射剂": "injection", "注射液": "injection",
    "乳膏": "cream", "软膏": "ointment", "凝胶": "gel",
    "贴剂": "patch", "吸入剂": "inhaler", "气雾剂": "inhaler",
    "滴眼液": "eye drops", "滴耳液": "ear drops", "栓剂": "suppository",
    "鼻喷剂": "nasal spray", "topical": "cream", "oral": "tablet", "外用": "cream",
    "饮片": "herbal piece", "中药饮片": "herbal piece",
}  # fmt: skip
_ROUTE_WAYS = {
    "1": "oral",
    "2": "rectal",
    "3": "sublingual",
    "4": "injection",
    "5": "inhaled",
    "6": "topical",
    "601": "injection",
    "602": "injection",
    "603": "injection",
    "604": "injection",
    "605": "topical",
    "606": "inhaled",
    "607": "topical",
    "608": "topical",
    "609": "topical",
    "610": "topical",
    "611": "topical",
    "612": "topical",
    "699": "topical",
}


def way_of(form: str | None, route: str | None) -> str:
    """How a drug gets in, by its form, else by its route; empty when nobody says."""
    return WAYS.get(form or "") or _ROUTE_WAYS.get(route or "", "")
