"""Which NLLB language a tag names: one, a question, or none.

A wrong guess here trains a model on the wrong language without a word, so whatever
names two languages is asked back with its candidates. langcodes parses tags and knows
names; the tables below hold what it cannot know: which member of a macrolanguage
NLLB-200 was trained on.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum
from functools import lru_cache

from dragoman.errors import InputError, UnknownLanguageError

_IN_MODEL_ORDER = """
    ace_Arab ace_Latn acm_Arab acq_Arab aeb_Arab afr_Latn ajp_Arab aka_Latn amh_Ethi apc_Arab arb_Arab ars_Arab
    ary_Arab arz_Arab asm_Beng ast_Latn awa_Deva ayr_Latn azb_Arab azj_Latn bak_Cyrl bam_Latn ban_Latn bel_Cyrl
    bem_Latn ben_Beng bho_Deva bjn_Arab bjn_Latn bod_Tibt bos_Latn bug_Latn bul_Cyrl cat_Latn ceb_Latn ces_Latn
    cjk_Latn ckb_Arab crh_Latn cym_Latn dan_Latn deu_Latn dik_Latn dyu_Latn dzo_Tibt ell_Grek eng_Latn epo_Latn
    est_Latn eus_Latn ewe_Latn fao_Latn pes_Arab fij_Latn fin_Latn fon_Latn fra_Latn fur_Latn fuv_Latn gla_Latn
    gle_Latn glg_Latn grn_Latn guj_Gujr hat_Latn hau_Latn heb_Hebr hin_Deva hne_Deva hrv_Latn hun_Latn hye_Armn
    ibo_Latn ilo_Latn ind_Latn isl_Latn ita_Latn jav_Latn jpn_Jpan kab_Latn kac_Latn kam_Latn kan_Knda kas_Arab
    kas_Deva kat_Geor knc_Arab knc_Latn kaz_Cyrl kbp_Latn kea_Latn khm_Khmr kik_Latn kin_Latn kir_Cyrl kmb_Latn
    kon_Latn kor_Hang kmr_Latn lao_Laoo lvs_Latn lij_Latn lim_Latn lin_Latn lit_Latn lmo_Latn ltg_Latn ltz_Latn
    lua_Latn lug_Latn luo_Latn lus_Latn mag_Deva mai_Deva mal_Mlym mar_Deva min_Latn mkd_Cyrl plt_Latn mlt_Latn
    mni_Beng khk_Cyrl mos_Latn mri_Latn zsm_Latn mya_Mymr nld_Latn nno_Latn nob_Latn npi_Deva nso_Latn nus_Latn
    nya_Latn oci_Latn gaz_Latn ory_Orya pag_Latn pan_Guru pap_Latn pol_Latn por_Latn prs_Arab pbt_Arab quy_Latn
    ron_Latn run_Latn rus_Cyrl sag_Latn san_Deva sat_Beng scn_Latn shn_Mymr sin_Sinh slk_Latn slv_Latn smo_Latn
    sna_Latn snd_Arab som_Latn sot_Latn spa_Latn als_Latn srd_Latn srp_Cyrl ssw_Latn sun_Latn swe_Latn swh_Latn
    szl_Latn tam_Taml tat_Cyrl tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi taq_Latn taq_Tfng tpi_Latn tsn_Latn
    tso_Latn tuk_Latn tum_Latn tur_Latn twi_Latn tzm_Tfng uig_Arab ukr_Cyrl umb_Latn urd_Arab uzn_Latn vec_Latn
    vie_Latn war_Latn wol_Latn xho_Latn ydd_Hebr yor_Latn yue_Hant zho_Hans zho_Hant zul_Latn
"""

CODES: tuple[str, ...] = tuple(_IN_MODEL_ORDER.split())
"""The 202 language codes of NLLB-200, in the order of their token ids."""

_BY_LANGUAGE = {
    language: tuple(code for code in CODES if code.startswith(language))
    for language in dict.fromkeys(code[:3] for code in CODES)
}

# Spellings that need no parsing. Bare languages stand here too: langcodes turns `prs` into
# fa-AF and `tgl` into fil, and follows ISO when that retires a language NLLB keeps (ajp).
_EXACT = (
    {code.lower().replace("_", "-"): code for code in CODES}
    | {language: codes[0] for language, codes in _BY_LANGUAGE.items() if len(codes) == 1}
    | {
        # NLLB's Santali is in Ol Chiki under a wrong label (facebookresearch/flores issue 52).
        "sat-olck": "sat_Beng",
        # FLORES+ follows ISO 639-3, which merged ajp into apc.
        "apc-arab-sout3123": "ajp_Arab",
    }
)


def _table(text: str) -> dict[str, str]:
    return {key: value for key, _, value in (entry.partition(":") for entry in text.split())}


# ISO 639-3 code -> the NLLB language that stands for it. Mostly macrolanguages.
_STANDS_FOR = _table("""
    ara:arb aym:ayr aze:azj cmn:zho din:dik ekk:est fas:pes fil:tgl ful:fuv gug:grn kau:knc lav:lvs mlg:plt mon:khk
    msa:zsm nep:npi nor:nob ori:ory orm:gaz pus:pbt que:quy sqi:als swa:swh tmh:taq uzb:uzn yid:ydd
""")

# Groups in which no member stands for the whole.
_GROUPS = {
    "ber": ("kab_Latn", "taq_Latn", "taq_Tfng", "tzm_Tfng"),
    "bih": ("bho_Deva", "mag_Deva", "mai_Deva"),
    "kur": ("ckb_Arab", "kmr_Latn"),
}

# What else a tag may mean when its script or region is not that of the language above.
_NEIGHBOURS = {"aze": ("azb_Arab",), "srp": ("bos_Latn", "hrv_Latn")}

# Region -> its spoken Arabic, its Chinese script.
_ARABIC = _table("EG:arz IL:ajp IQ:acm JO:ajp LB:apc MA:ary PS:ajp SA:ars SY:apc TN:aeb YE:acq")
_CHINESE = _table("CN:Hans HK:Hant MO:Hant MY:Hans SG:Hans TW:Hant")
_SAME_SCRIPT = {"Aran": "Arab", "Kore": "Hang"}

# Where langcodes has a qualified, rarer or wrong name.
_NAMES = _table("ben:Bengali luo:Luo npi:Nepali ory:Odia prs:Dari swh:Swahili tgl:Tagalog")

_LIST_HINT = "`dragoman languages` lists the 202 languages of NLLB-200"
_GLOTTOCODE = re.compile(r"(?<=-[a-z]{4})-[a-z]{4}[0-9]{4}$")  # FLORES+: apc_Arab_nort3139
_WRITTEN_OUT = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
_ARROW = re.compile(r"\s*(?:->|=>|→|>|:)\s*")
_BOTH_WAYS = re.compile(r"\s*(?:<->|<=>|<>|↔)\s*")


@dataclass(frozen=True, slots=True, order=True)
class Direction:
    """Translation from one NLLB language into another; printed as `eng_Latn-fra_Latn`."""

    source: str
    """NLLB code of the language translated from."""

    target: str
    """NLLB code of the language translated into."""

    def __str__(self) -> str:
        return f"{self.source}-{self.target}"


class _Kind(IntEnum):
    """How much is known about a tag, the most useful first."""

    FOUND = 0
    ASK = 1
    LACKS = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class _Finding:
    kind: _Kind
    reason: str
    codes: tuple[str, ...] = ()

    def error(self) -> UnknownLanguageError:
        hint = ", ".join(f"{code} = {name(code)}" for code in self.codes)
        return UnknownLanguageError(self.reason, self.codes, hint or _LIST_HINT)


def is_new(code: str) -> bool:
    """Whether `code` has the form of NLLB's codes, such as `tyv_Cyrl`, and is none of them."""
    return bool(_WRITTEN_OUT.fullmatch(code)) and code not in CODES


def new_among(codes: Iterable[str]) -> tuple[str, ...]:
    """Those of `codes` that are new, each once: what the model of a run was or is taught besides NLLB's languages."""
    return tuple(dict.fromkeys(code for code in codes if is_new(code)))


def resolve(tag: str, also: Sequence[str] = ()) -> str:
    """Return the NLLB code that `tag` names.

    Takes ISO 639-1, -2 and -3, BCP-47 in either case with `-` or `_`, and the codes
    of NLLB, FLORES-200 and FLORES+.

    Args:
        tag: What the user wrote.
        also: Codes that the model was taught besides NLLB's; each is found by itself and by its language.

    Raises:
        UnknownLanguageError: With candidates when the tag may mean several languages,
            a script NLLB does not write, or is a name or a typo; without when NLLB
            lacks the language.
    """
    finding = _find(tag, also)
    if finding.kind is not _Kind.FOUND:
        raise finding.error()
    return finding.codes[0]


def lookup(tag: str, also: Sequence[str] = ()) -> dict[str, object]:
    """Return `{"tag", "code", "candidates", "reason"}`: what `resolve` knows about a tag, without raising.

    `code` is None unless the tag names exactly one language; `reason` is one sentence.
    """
    finding = _find(tag, also)
    found = finding.kind is _Kind.FOUND
    return {
        "tag": tag,
        "code": finding.codes[0] if found else None,
        "candidates": [] if found else list(finding.codes),
        "reason": f"{tag!r} is {name(finding.codes[0])}" if found else finding.reason,
    }


def _find(tag: str, also: Sequence[str] = ()) -> _Finding:
    finding = _find_in_nllb(tag)
    if not also or finding.kind is _Kind.FOUND:
        return finding
    plain = tag.strip().replace("_", "-").lower()
    exact = tuple(code for code in dict.fromkeys(also) if plain == code.lower().replace("_", "-"))
    meant = exact or tuple(code for code in dict.fromkeys(also) if plain in _tags_of(code[:3]))
    if finding.kind is _Kind.ASK and not exact:
        return _Finding(_Kind.ASK, finding.reason, (*finding.codes, *meant))
    if len(meant) == 1:
        return _Finding(_Kind.FOUND, "", meant)
    return _Finding(_Kind.ASK, f"{tag!r} may mean several languages of this model", meant) if meant else finding


@lru_cache(maxsize=256)
def _tags_of(language: str) -> tuple[str, ...]:
    """The bare tags of an ISO 639-3 language: `chv` and `cv`."""
    from langcodes import standardize_tag

    return language, standardize_tag(language)


@lru_cache(maxsize=4096)
def _find_in_nllb(tag: str) -> _Finding:
    from langcodes import Language

    plain = tag.strip().replace("_", "-").lower()
    if plain in _EXACT:
        return _Finding(_Kind.FOUND, "", (_EXACT[plain],))
    try:
        parsed = Language.get(_GLOTTOCODE.sub("", plain))
        iso3 = parsed.to_alpha3()
    except (ValueError, LookupError):
        return _find_by_name(tag, plain)
    if not parsed.is_valid() or parsed.extlangs or iso3 in ("mis", "mul", "und", "zxx"):
        return _find_by_name(tag, plain)

    if iso3 == "fas" and parsed.territory == "AF":
        return _Finding(_Kind.FOUND, "", ("prs_Arab",))
    language = _STANDS_FOR.get(iso3, iso3)
    codes = _GROUPS.get(language) or _BY_LANGUAGE.get(language)
    if codes is None:
        known = parsed.language_name()
        called = f"language {tag!r}" if known.startswith("Unknown") else f"{known} ({tag!r})"
        return _Finding(_Kind.LACKS, f"NLLB-200 has no {called}")

    several = f"{tag!r} may mean several languages of NLLB-200"
    territory = parsed.territory or ""
    if iso3 == "ara" and territory not in ("", "001"):
        spoken = {_ARABIC[territory]} if territory in _ARABIC else set(_ARABIC.values())
        return _Finding(_Kind.ASK, several, (*codes, *(f"{each}_Arab" for each in sorted(spoken))))
    script = parsed.script or (_CHINESE.get(territory) if language == "zho" else None)
    if script:
        fitting = tuple(code for code in codes if code.endswith(_SAME_SCRIPT.get(script, script)))
    elif territory and len(codes) == 1 and parsed.maximize().script != Language.get(iso3).maximize().script:
        fitting = ()  # az-IR, pa-PK, sr-ME: this region writes another script than the language usually does.
    else:
        fitting = codes
    if len(fitting) == 1:
        return _Finding(_Kind.FOUND, "", fitting)
    if fitting:
        return _Finding(_Kind.ASK, several, fitting)
    reason = f"{tag!r}: NLLB-200 writes {parsed.language_name()} in another script"
    return _Finding(_Kind.ASK, reason, (*codes, *_NEIGHBOURS.get(iso3, ())))


def _find_by_name(tag: str, plain: str) -> _Finding:
    """Not a tag: perhaps a name (`french`) or a typo (`fra_Lat`)."""
    import langcodes

    reason = f"{tag!r} is not a language tag"
    # langcodes looks names up in a trie that a control character takes apart.
    if not 4 <= len(plain) <= 40 or not plain.isprintable():
        return _Finding(_Kind.UNKNOWN, reason)
    if close := get_close_matches(plain, _EXACT, n=3, cutoff=0.85):
        return _Finding(_Kind.UNKNOWN, reason, tuple(dict.fromkeys(_EXACT[spelling] for spelling in close)))
    try:
        named = _find_in_nllb(langcodes.find(plain).to_tag())
    except LookupError:
        by_name = {name(code).lower(): code for code in CODES}
        close = [each for each in by_name if plain in each] or get_close_matches(plain, by_name, n=3, cutoff=0.75)
        return _Finding(_Kind.UNKNOWN, reason, tuple(by_name[each] for each in close))
    return named if named.kind is _Kind.LACKS else _Finding(_Kind.UNKNOWN, reason, named.codes)


def parse_pair(text: str, also: Sequence[str] = ()) -> Direction:
    """Read a direction: `en-fr`, `eng_Latn-fra_Latn`, `en-pt-BR`, `zh-Hant_en`, `en:fr`, `en->fr`.

    Every place where the text can be cut is tried; it must have exactly one meaning. A
    two-letter subtag in upper case after one that is not belongs to what precedes it,
    so `fr-CA` is one language and `fr-ca` French into Catalan.

    Args:
        text: What the user wrote.
        also: Codes that the model was taught besides NLLB's.

    Raises:
        UnknownLanguageError: A side is ambiguous (with candidates) or not in NLLB.
        InputError: One language, the same language twice, two meanings or both directions.
    """
    text = text.strip()
    if len(sides := _BOTH_WAYS.split(text)) > 1:
        there, back = "-".join(sides), "-".join(reversed(sides))
        raise InputError(f"--language-pairs {text!r}: a pair has one direction", f"name both: {there} {back}")
    meanings = _meanings(text, also)
    if not meanings:
        raise _not_a_pair(text, also)
    if len(meanings) > 1:
        readings = " or ".join(map(str, meanings))
        raise InputError(f"--language-pairs {text!r} may mean {readings}", "write the one you mean in this longer form")
    if meanings[0].source == meanings[0].target:
        raise InputError(f"--language-pairs {text!r}: source and target are both {name(meanings[0].source)}")
    return meanings[0]


def _meanings(text: str, also: Sequence[str]) -> list[Direction]:
    for cuts in _cuts(text):
        fitting = [cut for cut in cuts if _worst(cut, also) is _Kind.FOUND]
        if found := {Direction(resolve(source, also), resolve(target, also)) for source, target in fitting}:
            return sorted(found)
    return []


def _cuts(text: str) -> list[list[tuple[str, str]]]:
    """Ways to cut `text` in two, grouped by separator; the first group with a meaning wins."""
    if len(sides := _ARROW.split(text)) > 1:
        return [[(sides[0], sides[1])]] if len(sides) == 2 else []
    # In `en-pt_BR` the hyphen parts the languages; in `en_pt-BR` only the underscore can.
    groups = [[(text[: at.start()], text[at.end() :]) for at in re.finditer(mark, text)] for mark in "-_"]
    return [[cut for cut in cuts if not _cuts_off_a_region(*cut)] for cuts in groups]


def _cuts_off_a_region(left: str, right: str) -> bool:
    before, after = re.split("[-_]", left)[-1], re.split("[-_]", right)[0]
    return len(after) == 2 and after.isupper() and not before.isupper()


def _worst(cut: tuple[str, str], also: Sequence[str]) -> _Kind:
    return max(_find(cut[0], also).kind, _find(cut[1], also).kind)


def _not_a_pair(text: str, also: Sequence[str]) -> InputError:
    """The most useful thing to say about a text that no cut makes a direction."""
    where = f"--language-pairs {text!r}"
    whole = _find(text, also)
    pair = f"{text}-fr" if whole.codes[:1] == ("eng_Latn",) else f"en-{text}"
    best = min((cut for cuts in _cuts(text) for cut in cuts), key=lambda cut: _worst(cut, also), default=None)
    if whole.kind < _Kind.LACKS and (best is None or _worst(best, also) is _Kind.UNKNOWN):
        hint = f"a source and a target: {pair}"
        if _meanings(text.lower(), also):
            hint += f"; in lower case, {text.lower()}, these are two languages"
        which = f" ({name(whole.codes[0])})" if whole.kind is _Kind.FOUND else ""
        return InputError(f"{where} is one language{which}; a pair has two", hint)
    if best is None:
        return InputError(f"{where} is not a pair of languages", "a source and a target in lower case: en-fr")
    finding = max((_find(side, also) for side in best), key=lambda side: side.kind)
    error = finding.error()
    if finding.kind is _Kind.LACKS and whole.kind is _Kind.FOUND:
        error.hint = f"if {text!r} is one language, a source and a target: {pair}"
    return UnknownLanguageError(f"{where}: {error.message}", error.candidates, error.hint)


@lru_cache(maxsize=len(CODES))
def name(code: str) -> str:
    """Return the English name of an NLLB code, with the script where NLLB has several: "Chinese (Simplified)".

    One that NLLB lacks has its name too, or, where nobody has given it one, is its own name.

    Raises:
        UnknownLanguageError: `code` names no language.
    """
    from langcodes import Language

    if is_new(code):
        called = Language.get(code[:3]).language_name()
        return code if called.startswith("Unknown") or called == code[:3] else called
    code = resolve(code)
    language = Language.get(code)
    plain = _NAMES.get(code[:3]) or language.language_name()
    return f"{plain} ({language.script_name()})" if len(_BY_LANGUAGE[code[:3]]) > 1 else plain


def search(query: str, also: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return (code, name) of every language whose code, tag or part of the name is `query`, the likeliest first.

    An empty query returns all 202, behind those of `also`.
    """
    query = query.strip()
    finding = _find(query, also)
    hits = dict.fromkeys(finding.codes if finding.kind <= _Kind.ASK else ())
    # Two letters are a tag; as part of a name they would match half of the table.
    if len(query) != 2:
        hits |= dict.fromkeys(code for code in (*also, *CODES) if query.lower() in f"{code}\n{name(code)}".lower())
    return [(code, name(code)) for code in hits or finding.codes]
