"""The 202 languages of NLLB-200, and what langcodes cannot know about them.

langcodes parses tags and knows names; the tables below say which member of a
macrolanguage NLLB-200 was trained on.
"""

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

BY_LANGUAGE = {
    language: tuple(code for code in CODES if code.startswith(language))
    for language in dict.fromkeys(code[:3] for code in CODES)
}

# Spellings that need no parsing. Bare languages stand here too: langcodes turns `prs` into
# fa-AF and `tgl` into fil, and follows ISO when that retires a language NLLB keeps (ajp).
EXACT = (
    {code.lower().replace("_", "-"): code for code in CODES}
    | {language: codes[0] for language, codes in BY_LANGUAGE.items() if len(codes) == 1}
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
STANDS_FOR = _table("""
    ara:arb aym:ayr aze:azj cmn:zho din:dik ekk:est fas:pes fil:tgl ful:fuv gug:grn kau:knc lav:lvs mlg:plt mon:khk
    msa:zsm nep:npi nor:nob ori:ory orm:gaz pus:pbt que:quy sqi:als swa:swh tmh:taq uzb:uzn yid:ydd
""")

# Groups in which no member stands for the whole.
GROUPS = {
    "ber": ("kab_Latn", "taq_Latn", "taq_Tfng", "tzm_Tfng"),
    "bih": ("bho_Deva", "mag_Deva", "mai_Deva"),
    "kur": ("ckb_Arab", "kmr_Latn"),
}

# What else a tag may mean when its script or region is not that of the language above.
NEIGHBOURS = {"aze": ("azb_Arab",), "srp": ("bos_Latn", "hrv_Latn")}

# Region -> its spoken Arabic, its Chinese script.
ARABIC = _table("EG:arz IL:ajp IQ:acm JO:ajp LB:apc MA:ary PS:ajp SA:ars SY:apc TN:aeb YE:acq")
CHINESE = _table("CN:Hans HK:Hant MO:Hant MY:Hans SG:Hans TW:Hant")
SAME_SCRIPT = {"Aran": "Arab", "Kore": "Hang"}

# Where langcodes has a qualified, rarer or wrong name.
NAMES = _table("ben:Bengali luo:Luo npi:Nepali ory:Odia prs:Dari swh:Swahili tgl:Tagalog")
