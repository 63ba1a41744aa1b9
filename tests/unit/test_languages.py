"""A tag names one NLLB language, asks with candidates, or says that NLLB lacks it."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman.errors import InputError, UnknownLanguageError
from dragoman.languages import (
    CODES,
    Direction,
    lookup,
    name,
    new_among,
    parse_pair,
    parse_pairs,
    resolve,
    search,
    short,
)


def _rows(table: str) -> list[tuple[str, str]]:
    return [(tag, code) for tag, code in (row.split(":") for row in table.split())]


# Every ISO 639-1 code whose language NLLB-200 has, but for those that ask (ks, kr, ku, zh).
ISO_639_1 = _rows("""
    af:afr_Latn ak:aka_Latn am:amh_Ethi ar:arb_Arab as:asm_Beng ay:ayr_Latn az:azj_Latn ba:bak_Cyrl be:bel_Cyrl
    bg:bul_Cyrl bm:bam_Latn bn:ben_Beng bo:bod_Tibt bs:bos_Latn ca:cat_Latn cs:ces_Latn cy:cym_Latn da:dan_Latn
    de:deu_Latn dz:dzo_Tibt ee:ewe_Latn el:ell_Grek en:eng_Latn eo:epo_Latn es:spa_Latn et:est_Latn eu:eus_Latn
    fa:pes_Arab ff:fuv_Latn fi:fin_Latn fj:fij_Latn fo:fao_Latn fr:fra_Latn ga:gle_Latn gd:gla_Latn gl:glg_Latn
    gn:grn_Latn gu:guj_Gujr ha:hau_Latn he:heb_Hebr hi:hin_Deva hr:hrv_Latn ht:hat_Latn hu:hun_Latn hy:hye_Armn
    id:ind_Latn ig:ibo_Latn is:isl_Latn it:ita_Latn ja:jpn_Jpan jv:jav_Latn ka:kat_Geor kg:kon_Latn ki:kik_Latn
    kk:kaz_Cyrl km:khm_Khmr kn:kan_Knda ko:kor_Hang ky:kir_Cyrl lb:ltz_Latn lg:lug_Latn li:lim_Latn ln:lin_Latn
    lo:lao_Laoo lt:lit_Latn lv:lvs_Latn mg:plt_Latn mi:mri_Latn mk:mkd_Cyrl ml:mal_Mlym mn:khk_Cyrl mr:mar_Deva
    ms:zsm_Latn mt:mlt_Latn my:mya_Mymr nb:nob_Latn ne:npi_Deva nl:nld_Latn nn:nno_Latn no:nob_Latn ny:nya_Latn
    oc:oci_Latn om:gaz_Latn or:ory_Orya pa:pan_Guru pl:pol_Latn ps:pbt_Arab pt:por_Latn qu:quy_Latn rn:run_Latn
    ro:ron_Latn ru:rus_Cyrl rw:kin_Latn sa:san_Deva sc:srd_Latn sd:snd_Arab sg:sag_Latn si:sin_Sinh sk:slk_Latn
    sl:slv_Latn sm:smo_Latn sn:sna_Latn so:som_Latn sq:als_Latn sr:srp_Cyrl ss:ssw_Latn st:sot_Latn su:sun_Latn
    sv:swe_Latn sw:swh_Latn ta:tam_Taml te:tel_Telu tg:tgk_Cyrl th:tha_Thai ti:tir_Ethi tk:tuk_Latn tl:tgl_Latn
    tn:tsn_Latn tr:tur_Latn ts:tso_Latn tt:tat_Cyrl tw:twi_Latn ug:uig_Arab uk:ukr_Cyrl ur:urd_Arab uz:uzn_Latn
    vi:vie_Latn wo:wol_Latn xh:xho_Latn yi:ydd_Hebr yo:yor_Latn zu:zul_Latn
""")

# Three letters: individual languages, macrolanguages, bibliographic codes, and FLORES+ names.
ISO_639_2_AND_3 = _rows("""
    eng:eng_Latn fra:fra_Latn fre:fra_Latn ger:deu_Latn dut:nld_Latn gre:ell_Grek rum:ron_Latn cze:ces_Latn
    per:pes_Arab arm:hye_Armn geo:kat_Geor bur:mya_Mymr tib:bod_Tibt wel:cym_Latn baq:eus_Latn alb:als_Latn
    ice:isl_Latn mac:mkd_Cyrl mao:mri_Latn may:zsm_Latn slo:slk_Latn
    aze:azj_Latn lav:lvs_Latn sqi:als_Latn msa:zsm_Latn swa:swh_Latn mlg:plt_Latn mon:khk_Cyrl nep:npi_Deva
    ori:ory_Orya uzb:uzn_Latn yid:ydd_Hebr aym:ayr_Latn que:quy_Latn orm:gaz_Latn ful:fuv_Latn fas:pes_Arab
    pus:pbt_Arab ara:arb_Arab nor:nob_Latn ekk:est_Latn gug:grn_Latn fil:tgl_Latn tgl:tgl_Latn tzm:tzm_Tfng
    din:dik_Latn crh:crh_Latn azb:azb_Arab sat:sat_Beng ceb:ceb_Latn ckb:ckb_Arab kmr:kmr_Latn hne:hne_Deva
    ilo:ilo_Latn war:war_Latn ast:ast_Latn arz:arz_Arab ary:ary_Arab apc:apc_Arab ajp:ajp_Arab prs:prs_Arab
    yue:yue_Hant mai:mai_Deva bho:bho_Deva nso:nso_Latn pap:pap_Latn tpi:tpi_Latn kea:kea_Latn twi:twi_Latn
    cmn_Hans:zho_Hans cmn_Hant:zho_Hant ekk_Latn:est_Latn gug_Latn:grn_Latn fil_Latn:tgl_Latn sat_Olck:sat_Beng
    apc_Arab_nort3139:apc_Arab apc_Arab_sout3123:ajp_Arab
""")

SCRIPTS_AND_REGIONS = _rows("""
    pt-BR:por_Latn pt_BR:por_Latn pt-br:por_Latn PT-BR:por_Latn pt-PT:por_Latn en-GB:eng_Latn en_US:eng_Latn
    es-419:spa_Latn fr-CA:fra_Latn de-CH:deu_Latn de-1996:deu_Latn ca-valencia:cat_Latn nl-BE:nld_Latn
    zh-Hans:zho_Hans zh-Hant:zho_Hant zh_CN:zho_Hans zh-SG:zho_Hans zh-MY:zho_Hans
    zh-TW:zho_Hant zh-HK:zho_Hant zh-MO:zho_Hant
    zh-Hant-HK:zho_Hant zh-Hans-TW:zho_Hans zh-yue:yue_Hant yue-HK:yue_Hant
    sr-Cyrl:srp_Cyrl sr-RS:srp_Cyrl sr-Cyrl-RS:srp_Cyrl uz-Latn:uzn_Latn az-Latn-AZ:azj_Latn kk-KZ:kaz_Cyrl
    fa-IR:pes_Arab fa-AF:prs_Arab ko-KR:kor_Hang ko-Kore:kor_Hang ja-JP:jpn_Jpan ur-Aran:urd_Arab pa-IN:pan_Guru
    ar-001:arb_Arab ku-Latn:kmr_Latn ku-Arab:ckb_Arab ks-Deva:kas_Deva kr-Arab:knc_Arab ace-Latn:ace_Latn
    iw:heb_Hebr in:ind_Latn ji:ydd_Hebr mo:ron_Latn ENG_LATN:eng_Latn eng-latn:eng_Latn Zho-hANT:zho_Hant
""")

ARABIC = {"arb", "acm", "acq", "aeb", "ajp", "apc", "ars", "ary", "arz"}

ASKS = {
    "zh": {"zho_Hans", "zho_Hant"},
    "zho": {"zho_Hans", "zho_Hant"},
    "chi": {"zho_Hans", "zho_Hant"},
    "cmn": {"zho_Hans", "zho_Hant"},
    "zh-US": {"zho_Hans", "zho_Hant"},
    "zh-Latn": {"zho_Hans", "zho_Hant"},
    "ku": {"ckb_Arab", "kmr_Latn"},
    "kur": {"ckb_Arab", "kmr_Latn"},
    "ku-IQ": {"ckb_Arab", "kmr_Latn"},
    "kr": {"knc_Arab", "knc_Latn"},
    "knc": {"knc_Arab", "knc_Latn"},
    "ks": {"kas_Arab", "kas_Deva"},
    "ks-IN": {"kas_Arab", "kas_Deva"},
    "ace": {"ace_Arab", "ace_Latn"},
    "bjn": {"bjn_Arab", "bjn_Latn"},
    "taq": {"taq_Latn", "taq_Tfng"},
    "tmh": {"taq_Latn", "taq_Tfng"},
    "ber": {"kab_Latn", "taq_Latn", "taq_Tfng", "tzm_Tfng"},
    "bh": {"bho_Deva", "mag_Deva", "mai_Deva"},
    "ar-EG": {"arb_Arab", "arz_Arab"},
    "ar-MA": {"arb_Arab", "ary_Arab"},
    "ar-IL": {"arb_Arab", "ajp_Arab"},
    "ar-JO": {"arb_Arab", "ajp_Arab"},
    "ar-PS": {"arb_Arab", "ajp_Arab"},
    "ar-LB": {"arb_Arab", "apc_Arab"},
    "ar-SY": {"arb_Arab", "apc_Arab"},
    "ar-AE": {code for code in CODES if code[:3] in ARABIC},
    "sr-Latn": {"srp_Cyrl", "hrv_Latn", "bos_Latn"},
    "sr-ME": {"srp_Cyrl", "hrv_Latn", "bos_Latn"},
    "sh": {"srp_Cyrl", "hrv_Latn", "bos_Latn"},
    "pa-Arab": {"pan_Guru"},
    "pa-PK": {"pan_Guru"},
    "az-Arab": {"azj_Latn", "azb_Arab"},
    "az-IR": {"azj_Latn", "azb_Arab"},
    "mn-Mong": {"khk_Cyrl"},
    "uz-Cyrl": {"uzn_Latn"},
    "kk-CN": {"kaz_Cyrl"},
    "arb_Latn": {"arb_Arab"},
    "min_Arab": {"min_Latn"},
    "en-Cyrl": {"eng_Latn"},
}

NOT_IN_NLLB = [
    "la",
    "br",
    "fy",
    "haw",
    "nds",
    "gsw",
    "wuu",
    "nan",
    "hak",
    "pnb",
    "zgh",
    "lzh",
    "tlh",
    "co",
    "kw",
    "lah",
    "pbu",
    "zh-min-nan",
    "la-VA",
]

NAMES_AND_TYPOS = {
    "french": {"fra_Latn"},
    "English": {"eng_Latn"},
    "deutsch": {"deu_Latn"},
    "dari": {"prs_Arab"},
    "Tagalog": {"tgl_Latn"},
    "Chinese": {"zho_Hans", "zho_Hant"},
    "kurdish": {"ckb_Arab", "kmr_Latn"},
    "levantine": {"ajp_Arab", "apc_Arab"},
    "portugese": {"por_Latn"},
    "eng_Latm": {"eng_Latn"},
    "fra_Lat": {"fra_Latn"},
}


# 119 common tags and what becomes of each: a code, `?` for a question, `-` for a language that NLLB lacks. The
# first three blocks are those that langcodes alone gets wrong, or that name several languages, or none of NLLB's.
COMMON = _rows("""
    az:azj_Latn lv:lvs_Latn sq:als_Latn ms:zsm_Latn sw:swh_Latn mg:plt_Latn mn:khk_Cyrl ne:npi_Deva or:ory_Orya
    uz:uzn_Latn yi:ydd_Hebr ay:ayr_Latn qu:quy_Latn om:gaz_Latn ff:fuv_Latn fa:pes_Arab ps:pbt_Arab et:est_Latn
    gn:grn_Latn tl:tgl_Latn fil:tgl_Latn no:nob_Latn nb:nob_Latn ko:kor_Hang tzm:tzm_Tfng din:dik_Latn crh:crh_Latn
    azb:azb_Arab sat:sat_Beng

    cmn:? zh:? ku:? ar-EG:? ar-MA:? sr-Latn:? sh:? kr:? pa-Arab:? ks:? ace:? bjn:? taq:?

    la:- br:- fy:- haw:- nds:- gsw:- wuu:- nan:- hak:- pnb:- zgh:-

    af:afr_Latn am:amh_Ethi ar:arb_Arab as:asm_Beng be:bel_Cyrl bg:bul_Cyrl bn:ben_Beng bo:bod_Tibt bs:bos_Latn
    ca:cat_Latn ceb:ceb_Latn ckb:ckb_Arab cs:ces_Latn cy:cym_Latn da:dan_Latn de:deu_Latn el:ell_Grek en:eng_Latn
    eo:epo_Latn es:spa_Latn eu:eus_Latn fi:fin_Latn fr:fra_Latn ga:gle_Latn gl:glg_Latn gu:guj_Gujr ha:hau_Latn
    he:heb_Hebr hi:hin_Deva hr:hrv_Latn hu:hun_Latn hy:hye_Armn id:ind_Latn ig:ibo_Latn is:isl_Latn it:ita_Latn
    ja:jpn_Jpan jv:jav_Latn ka:kat_Geor kk:kaz_Cyrl km:khm_Khmr kn:kan_Knda lo:lao_Laoo lt:lit_Latn mk:mkd_Cyrl
    ml:mal_Mlym mr:mar_Deva mt:mlt_Latn my:mya_Mymr nl:nld_Latn pa:pan_Guru pl:pol_Latn pt:por_Latn ro:ron_Latn
    ru:rus_Cyrl si:sin_Sinh sk:slk_Latn sl:slv_Latn so:som_Latn sr:srp_Cyrl sv:swe_Latn ta:tam_Taml te:tel_Telu
    th:tha_Thai tr:tur_Latn vi:vie_Latn
""")


def test_the_common_tags_are_so_many_and_each_question_is_written_out_above():
    assert len(dict(COMMON)) == len(COMMON) == 119
    assert {tag for tag, meant in COMMON if meant == "?"} <= set(ASKS)


@pytest.mark.parametrize(("tag", "meant"), COMMON)
def test_every_common_tag_resolves_right_or_asks(tag: str, meant: str):
    answer = lookup(tag)
    if meant == "?":
        assert answer["code"] is None
        assert answer["candidates"]
        assert set(_error(tag).candidates) == ASKS[tag]
    elif meant == "-":
        assert (answer["code"], answer["candidates"]) == (None, [])
        assert _error(tag).message.startswith("NLLB-200 has no ")
    else:
        assert resolve(tag) == answer["code"] == meant


def _error(tag: str) -> UnknownLanguageError:
    with pytest.raises(UnknownLanguageError) as caught:
        resolve(tag)
    return caught.value


def test_the_codes_are_those_of_transformers_in_model_order():
    nllb = pytest.importorskip("transformers.models.nllb.tokenization_nllb")
    assert list(CODES) == list(nllb.FAIRSEQ_LANGUAGE_CODES)


@pytest.mark.parametrize("code", CODES)
def test_every_code_round_trips(code: str):
    assert resolve(code) == resolve(code.lower()) == resolve(code.upper().replace("_", "-")) == code


@pytest.mark.parametrize("language", sorted({code[:3] for code in CODES}))
def test_a_bare_nllb_language_is_its_code_or_asks_for_the_script(language: str):
    codes = {code for code in CODES if code.startswith(language)}
    if len(codes) == 1:
        assert {resolve(language)} == codes
    else:
        assert set(_error(language).candidates) == codes


@pytest.mark.parametrize(("tag", "code"), ISO_639_1 + ISO_639_2_AND_3 + SCRIPTS_AND_REGIONS)
def test_a_tag_resolves_to_its_code(tag: str, code: str):
    assert resolve(tag) == code


@pytest.mark.parametrize(("tag", "code"), ISO_639_1)
def test_case_and_space_around_a_tag_mean_nothing(tag: str, code: str):
    assert resolve(f" {tag.upper()}\n") == code


@pytest.mark.parametrize("tag", ASKS)
def test_what_may_mean_several_asks_with_candidates(tag: str):
    error = _error(tag)
    assert set(error.candidates) == ASKS[tag]
    assert len(error.candidates) == len(ASKS[tag])
    assert all(code in error.hint for code in error.candidates)
    assert repr(tag) in error.message


@pytest.mark.parametrize(
    ("tag", "why"),
    [("zh-US", "several languages"), ("ku-IQ", "several languages"), ("sr-Latn", "Serbian in another script")],
)
def test_asking_says_why(tag: str, why: str):
    assert why in _error(tag).message


@pytest.mark.parametrize("tag", NOT_IN_NLLB)
def test_what_nllb_lacks_has_no_candidates(tag: str):
    error = _error(tag)
    assert error.candidates == ()
    assert error.message.startswith("NLLB-200 has no ")
    assert "dragoman languages" in error.hint


@pytest.mark.parametrize("tag", NAMES_AND_TYPOS)
def test_a_name_or_a_typo_offers_what_it_resembles(tag: str):
    assert set(_error(tag).candidates) == NAMES_AND_TYPOS[tag]


@pytest.mark.parametrize(
    "tag", ["", "-", "xyzzy", "und", "mul", "zxx", "qqqqq", "en-ZH", "en-fra", "en-abcde", "12", "\0", "\x00000"]
)
def test_nonsense_is_unknown(tag: str):
    assert "is not a language tag" in _error(tag).message


def test_latin_by_name_is_a_language_nllb_lacks():
    assert _error("Latin").message == "NLLB-200 has no Latin ('la')"


_subtags = st.one_of(
    st.sampled_from(
        [*CODES, *ASKS, *NOT_IN_NLLB, "Latn", "Hans", "Arab", "BR", "x", "u", "419", "i", "art", "min", "sgn"]
    ),
    st.text("abcdefghijklmnopqrstuvwxyz0123456789", max_size=9),
    st.text(max_size=5),
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(), st.lists(_subtags, max_size=5).map("-".join), st.lists(_subtags, max_size=3).map("_".join)))
def test_any_text_is_a_code_or_an_unknown_language(tag: str):
    answer = lookup(tag)
    json.dumps(answer)
    if answer["code"] is not None:
        assert resolve(tag) == answer["code"]
        assert resolve(tag) in CODES
    else:
        assert list(_error(tag).candidates) == answer["candidates"]
        assert set(_error(tag).candidates) <= set(CODES)


@settings(max_examples=300, deadline=None)
@given(st.lists(_subtags, max_size=5), st.sampled_from(["-", "_", ":", "->", ">", "<->"]))
def test_any_text_is_a_direction_or_an_input_error(subtags: list[str], separator: str):
    try:
        direction = parse_pair(separator.join(subtags))
    except InputError:
        return
    assert {direction.source, direction.target} <= set(CODES)
    assert direction.source != direction.target


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(CODES), st.sampled_from(CODES))
def test_a_printed_direction_reads_back(source: str, target: str):
    if source != target:
        assert parse_pair(str(Direction(source, target))) == Direction(source, target)


@pytest.mark.parametrize(
    ("text", "printed"),
    _rows("""
        en-fr:eng_Latn-fra_Latn EN-FR:eng_Latn-fra_Latn eng-fra:eng_Latn-fra_Latn en_fr:eng_Latn-fra_Latn
        eng_Latn-fra_Latn:eng_Latn-fra_Latn eng_Latn_fra_Latn:eng_Latn-fra_Latn en->fr:eng_Latn-fra_Latn
        en>fr:eng_Latn-fra_Latn en→fr:eng_Latn-fra_Latn
        en-pt-BR:eng_Latn-por_Latn en-pt-br:eng_Latn-por_Latn en-pt_BR:eng_Latn-por_Latn en_pt-BR:eng_Latn-por_Latn
        pt-BR-en:por_Latn-eng_Latn pt_BR-en:por_Latn-eng_Latn pt-BR_en:por_Latn-eng_Latn pt-BR-EN:por_Latn-eng_Latn
        es-AR-pt-BR:spa_Latn-por_Latn es_AR-en:spa_Latn-eng_Latn en-es-AR:eng_Latn-spa_Latn en-es_ar:eng_Latn-spa_Latn
        en-GB-FR:eng_Latn-fra_Latn
        zh-Hant-en:zho_Hant-eng_Latn en-zh-TW:eng_Latn-zho_Hant zh-TW-en:zho_Hant-eng_Latn
        zh-Hans-zh-Hant:zho_Hans-zho_Hant zh-Hant-TW-en:zho_Hant-eng_Latn zh-yue-en:yue_Hant-eng_Latn
        fr-ca:fra_Latn-cat_Latn en-fr-CA:eng_Latn-fra_Latn no-nn:nob_Latn-nno_Latn sat_Olck-en:sat_Beng-eng_Latn
    """),
)
def test_a_pair_is_cut_where_it_has_one_meaning(text: str, printed: str):
    assert str(parse_pair(text)) == printed


def test_a_colon_cuts_a_pair():
    assert parse_pair("en:fr-ca") == parse_pair("en : fr-CA") == Direction("eng_Latn", "fra_Latn")


@pytest.mark.parametrize("text", ["fr", "pt-BR", "pt_BR", "zh-TW", "fr-CA", "en-US", "sr-Latn", "ar-EG", "eng_Latn"])
def test_one_language_is_not_a_pair(text: str):
    with pytest.raises(InputError, match=r"--language-pairs .* is one language") as caught:
        parse_pair(text)
    assert text in caught.value.hint


def test_one_language_that_reads_as_two_in_lower_case_says_so():
    with pytest.raises(InputError) as caught:
        parse_pair("fr-CA")
    assert "fr-ca" in caught.value.hint


@pytest.mark.parametrize("text", ["en-en", "no-nb", "en-GB-en-US", "fa-pes", "tl:fil"])
def test_source_and_target_differ(text: str):
    with pytest.raises(InputError, match=r"--language-pairs .* source and target are both"):
        parse_pair(text)


@pytest.mark.parametrize(
    ("text", "tag"), [("en-zh", "zh"), ("ku-en", "ku"), ("en-sr-Latn", "sr-Latn"), ("zh-ku", "zh")]
)
def test_an_ambiguous_side_asks(text: str, tag: str):
    with pytest.raises(UnknownLanguageError) as caught:
        parse_pair(text)
    assert set(caught.value.candidates) == ASKS[tag]
    assert repr(tag) in caught.value.message


@pytest.mark.parametrize("text", ["en-la", "la-en", "en-haw", "pt-br"])
def test_a_side_that_nllb_lacks_is_named(text: str):
    with pytest.raises(UnknownLanguageError, match="NLLB-200 has no") as caught:
        parse_pair(text)
    assert caught.value.candidates == ()


def test_a_side_that_nllb_lacks_may_have_been_a_region():
    with pytest.raises(UnknownLanguageError) as region:
        parse_pair("pt-br")
    with pytest.raises(UnknownLanguageError) as language:
        parse_pair("la-en")
    assert "en-pt-br" in region.value.hint
    assert "dragoman languages" in language.value.hint


def test_an_ambiguous_tag_alone_is_not_called_by_one_of_its_names():
    with pytest.raises(InputError) as caught:
        parse_pair("ar-EG")
    assert "Standard Arabic" not in caught.value.message


def test_names_in_a_pair_offer_codes():
    with pytest.raises(UnknownLanguageError) as caught:
        parse_pair("english-french")
    assert caught.value.candidates == ("eng_Latn",)


def test_two_meanings_are_an_error_that_names_both():
    with pytest.raises(InputError, match="eng_Latn-cat_Latn or eng_Latn-fra_Latn"):
        parse_pair("en-fr-ca")


BOTH_WAYS = ["en<->fr", "en <> fr", "en↔fr", "en--fr", "en -- fr", "eng_Latn--fra_Latn"]


@pytest.mark.parametrize("text", BOTH_WAYS)
def test_both_directions_are_two_pairs(text: str):
    there, back = parse_pairs(text)
    assert (there, back) == (Direction("eng_Latn", "fra_Latn"), Direction("fra_Latn", "eng_Latn"))


@pytest.mark.parametrize(("text", "target"), [("en--pt-BR", "por_Latn"), ("en<->zh_TW", "zho_Hant")])
def test_a_language_on_either_side_of_both_ways_may_have_a_region(text: str, target: str):
    assert parse_pairs(text) == [Direction("eng_Latn", target), Direction(target, "eng_Latn")]


@pytest.mark.parametrize("text", ["en-fr", "fr-ca", "en->fr", "pt-BR-en"])
def test_one_direction_is_one_of_many(text: str):
    assert parse_pairs(text) == [parse_pair(text)]


@pytest.mark.parametrize("text", ["en<->zh", "en--", "--fr", "en--fr--de", "en--en", "en--la"])
def test_both_ways_between_what_are_no_two_languages_is_an_input_error(text: str):
    with pytest.raises(InputError, match="--language-pairs"):
        parse_pairs(text)


@pytest.mark.parametrize("text", BOTH_WAYS)
def test_where_one_direction_is_wanted_both_are_refused(text: str):
    with pytest.raises(InputError, match="one direction here"):
        parse_pair(text)


def test_a_rehearsed_direction_is_another_one():
    plain, replay = Direction("eng_Latn", "fra_Latn"), Direction("eng_Latn", "fra_Latn", is_replay=True)
    assert plain != replay
    assert str(replay) == "eng_Latn-fra_Latn (replay)"
    assert replay.reversed.reversed == replay


@pytest.mark.parametrize("text", ["", "-", "en-", "-fr", "en fr", "en:fr:de", "en-qqq"])
def test_what_is_not_a_pair_is_an_input_error(text: str):
    with pytest.raises(InputError, match="--language-pairs"):
        parse_pair(text)


def test_directions_are_sortable_values():
    first, second = Direction("deu_Latn", "eng_Latn"), Direction("eng_Latn", "deu_Latn")
    assert sorted({second, first, Direction("deu_Latn", "eng_Latn")}) == [first, second]
    assert str(first) == "deu_Latn-eng_Latn"


def test_every_language_has_a_name_of_its_own():
    names = {code: name(code) for code in CODES}
    assert len(set(names.values())) == len(CODES)
    assert not [each for each in names.values() if "Unknown" in each or "individual" in each or not each[0].isalpha()]


@pytest.mark.parametrize(
    ("code", "english"),
    [
        ("eng_Latn", "English"),
        ("zho_Hans", "Chinese (Simplified)"),
        ("zho_Hant", "Chinese (Traditional)"),
        ("taq_Tfng", "Tamasheq (Tifinagh)"),
        ("prs_Arab", "Dari"),
        ("swh_Latn", "Swahili"),
        ("tgl_Latn", "Tagalog"),
        ("sat_Beng", "Santali"),
    ],
)
def test_a_name_is_english_with_the_script_where_it_matters(code: str, english: str):
    assert name(code) == english


def test_an_empty_search_lists_all():
    assert [code for code, _ in search("")] == list(CODES)
    assert search("  ") == search("")


@pytest.mark.parametrize(
    ("query", "codes"),
    [
        ("fr", {"fra_Latn"}),
        ("zh", {"zho_Hans", "zho_Hant"}),
        ("zho", {"zho_Hans", "zho_Hant"}),
        ("French", {"fra_Latn"}),
        ("kurd", {"ckb_Arab", "kmr_Latn"}),
        ("tfng", {"taq_Tfng", "tzm_Tfng"}),
        ("frensh", {"fra_Latn"}),
        ("la", set()),
        ("xyzzy", set()),
    ],
)
def test_a_search_matches_codes_tags_and_names(query: str, codes: set[str]):
    rows = search(query)
    assert {code for code, _ in rows} == codes
    assert all(english == name(code) for code, english in rows)


def test_a_search_puts_the_meaning_of_a_tag_first():
    assert search("min")[0] == ("min_Latn", "Minangkabau")
    assert search("arb")[0] == ("arb_Arab", "Standard Arabic")


def test_lookup_says_found_ask_or_none():
    assert lookup("fr") == {"tag": "fr", "code": "fra_Latn", "candidates": [], "reason": "'fr' is French"}
    assert lookup("zh") == {
        "tag": "zh",
        "code": None,
        "candidates": ["zho_Hans", "zho_Hant"],
        "reason": "'zh' may mean several languages of NLLB-200",
    }
    assert lookup("la") == {"tag": "la", "code": None, "candidates": [], "reason": "NLLB-200 has no Latin ('la')"}


def test_importing_the_module_loads_nothing_heavy():
    heavy = "{'langcodes', 'language_data', 'torch', 'transformers'}"
    code = f"import sys, dragoman.languages; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- what a model was taught ---------------------------------------------------------

TAUGHT = ("tyv_Cyrl", "chv_Cyrl", "zho_Latn", "qaa_Latn")


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("tyv_Cyrl", "tyv_Cyrl"),
        ("TYV-cyrl", "tyv_Cyrl"),
        ("tyv", "tyv_Cyrl"),
        ("cv", "chv_Cyrl"),
        ("tyv-RU", "tyv_Cyrl"),
        ("tyv_Cyrl_RU", "tyv_Cyrl"),
        ("cv-RU", "chv_Cyrl"),
        ("zho_Latn", "zho_Latn"),
        ("zh-Latn", "zho_Latn"),
        ("qaa", "qaa_Latn"),
        ("fr", "fra_Latn"),
    ],
)
def test_a_taught_language_is_found_by_its_code_and_by_its_language(tag: str, code: str) -> None:
    assert resolve(tag, TAUGHT) == code
    if code in TAUGHT:
        with pytest.raises(UnknownLanguageError):
            resolve(tag)


def test_a_taught_script_is_one_more_candidate_of_a_language_that_nllb_knows() -> None:
    with pytest.raises(UnknownLanguageError) as refusal:
        resolve("zh", TAUGHT)
    assert refusal.value.candidates == ("zho_Hans", "zho_Hant", "zho_Latn")
    with pytest.raises(UnknownLanguageError) as refusal:
        resolve("tyv", ("tyv_Cyrl", "tyv_Latn"))
    assert refusal.value.candidates == ("tyv_Cyrl", "tyv_Latn")


def test_pairs_of_taught_languages() -> None:
    for text in ("en-tyv_Cyrl", "eng_Latn-tyv", "en:tyv", "en_tyv", "en-tyv-RU", "en-tyv-ru", "en_tyv-RU"):
        assert str(parse_pair(text, TAUGHT)) == "eng_Latn-tyv_Cyrl"
    assert [str(one) for one in parse_pairs("en--tyv", TAUGHT)] == ["eng_Latn-tyv_Cyrl", "tyv_Cyrl-eng_Latn"]
    with pytest.raises(UnknownLanguageError, match="no Tuvinian"):
        parse_pair("en-tyv_Cyrl")


@pytest.mark.parametrize("tag", ["tyv-Latn", "tyv_Latn", "en-tyv", "tyv-en", "tuv", "cmn-Latn-en"])
def test_another_script_or_a_pair_is_no_taught_language(tag: str) -> None:
    with pytest.raises(UnknownLanguageError):
        resolve(tag, TAUGHT)


def test_new_codes_have_the_form_of_nllbs_and_are_none_of_them() -> None:
    assert new_among(["tyv_Cyrl", "fra_Latn", "tyv", "tyv_Cyrl", "<mask>", "tyv-Cyrl"]) == ("tyv_Cyrl",)


def test_taught_languages_have_names_and_are_listed() -> None:
    assert [name(code) for code in TAUGHT] == ["Tuvinian", "Chuvash", "Chinese", "qaa_Latn"]
    assert search("tuv", TAUGHT)[0] == ("tyv_Cyrl", "Tuvinian")
    assert len(search("", TAUGHT)) == 202 + len(TAUGHT)
    assert lookup("tyv", TAUGHT)["code"] == "tyv_Cyrl"


def test_the_short_tag_of_a_code_names_it_and_nothing_else() -> None:
    for code in CODES:
        assert resolve(short(code)) == code
    assert [short(code) for code in ("fra_Latn", "ast_Latn", "zho_Hans", "tyv_Cyrl")] == [
        *("fr", "ast", "zho_Hans", "tyv_Cyrl")
    ]
    assert Direction("eng_Latn", "zho_Hant").short == "en-zho_Hant"
