"""The columns of a chunk: each field's recipe, its share of filled values, and its oddities."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from operator import itemgetter

from pgload.sample import recipes as make
from pgload.sample.chunk import Chunk
from pgload.sample.draws import ROWS, filled_share
from pgload.sample.fields import family, field_list
from pgload.sample.words import words


def columns(chunk: Chunk) -> list[Sequence[str]]:
    """The columns of all fields of the chunk's kind, in wire order."""
    return [_column(chunk, field.name) for field in field_list().kinds[chunk.kind].fields]


def _column(chunk: Chunk, name: str) -> Sequence[str]:
    share = filled_share(name)
    filled = chunk.filled(name) if 0 < share < 1 else [share == 1]
    if not any(filled):
        return [""] * ROWS
    values = _with_oddities(chunk, name, recipes()[family(name)](chunk, name))
    if all(filled):
        return values
    return [value if there else "" for value, there in zip(values, filled, strict=True)]


def _with_oddities(chunk: Chunk, name: str, values: Sequence[str]) -> Sequence[str]:
    for step, oddity in enumerate(words().oddities):
        if oddity.field == name:
            draws = chunk.draw(f"oddity {step}:")
            rows = {row for row, draw in enumerate(draws) if draw < oddity.share}
            if chunk.index == 0:
                rows.add(oddity.row)
            values = [
                oddity.form.format(value) if row in rows else value
                for row, value in enumerate(values)
            ]
    return values


@cache
def recipes() -> dict[str, make.Recipe]:
    """The recipe of each field that is ever filled; of a numbered family without the number."""
    pools = words().pools
    return {
        **{name: make.word(pool) for name, pool in words().fields.items()},
        **{name: make.flag(share) for name, share in words().flags.items()},
        # the notice
        "bidNtceNo": make.each("number"),
        "bidNtceOrd": make.each("order"),
        "untyNtceNo": make.each("serial", "R25BM{:08}".format),
        "befBidBbancNo": make.each("serial", lambda serial: f"R25BK{serial - 5003:08}"),
        "orderPlanUntyNo": make.each("serial", "R25DD{:08}".format),
        "bfSpecRgstNo": make.each("serial", "R25BD{:08}".format),
        "ntceKindNm": make.kind_name,
        "refNo": make.reference,
        "bidNtceNm": make.each("title"),
        "bidNtceDtlUrl": make.each("notice_url"),
        "stdNtceDocUrl": make.document_url,
        "ntceSpecDocUrl": make.document_url,
        "ntceSpecFileNm": make.document_name,
        "chgNtceRsn": make.change_reason,
        # institutions and people
        "ntceInsttCd": make.part("desk", "code"),
        "ntceInsttNm": make.part("desk", "institution"),
        "dminsttCd": make.part("buyer", "code"),
        "dminsttNm": make.part("buyer", "institution"),
        "dmndInsttCd": make.part("buyer", "code"),
        "dmndInsttNm": make.part("buyer", "institution"),
        "ntceInsttOfclNm": make.part("desk", "official"),
        "ntceInsttOfclTelNo": make.part("desk", "phone"),
        "ntceInsttOfclEmailAdrs": make.part("desk", "email"),
        "exctvNm": make.part("desk", "executive"),
        "crdtrNm": make.part("desk", "creditor"),
        "cnstrtsiteRgnNm": make.part("desk", "region"),
        "opengPlce": make.form(pools["opening_places"], "unit"),
        "dcmtgOprtnPlce": make.form(pools["briefing_places"], "unit"),
        # times
        "bidNtceDt": make.notice_time,
        "rgstDt": make.notice_time,
        "dcmtgOprtnDt": make.time("notice_day", "briefing_times", after=1),
        "bidBeginDt": make.time("begin_day", "beginning_times"),
        "bidQlfctRgstDt": make.time("close_day", "registration_times", "", after=-1),
        "bidClseDt": make.each("close_moment"),
        "opengDt": make.each("opening_moment"),
        "rbidOpengDt": make.each("opening_moment"),
        "dlvrTmlmtDt": make.time("close_day", "deadlines", after=45),
        "cmmnSpldmdAgrmntClseDt": make.time("close_day", "deadlines", after=-1),
        **{
            name: make.time("close_day", "registration_times", after=-1)
            for name in (
                "pqApplDocRcptDt",
                "tpEvalApplClseDt",
                "arsltApplDocRcptDt",
                "arsltReqstdocRcptDt",
                "bidWgrnteeRcptClseDt",
            )
        },
        # amounts in won
        "presmptPrce": make.each("price"),
        "VAT": make.each("price", lambda price: price // 10),
        "bdgtAmt": make.each("budget"),
        "asignBdgtAmt": make.each("budget"),
        "mainCnsttyPresmptPrce": make.each("main_price"),
        "indutyVAT": make.each("main_price", lambda price: price // 10),
        "mainCnsttyCnstwkPrearngAmt": make.each("main_price", lambda price: price + price // 10),
        "govsplyAmt": make.supply(0.24),
        "govcnstrtnGovsplyMtrlAmt": make.supply(0.24),
        "contrctrcnstrtnGovsplyMtrlAmt": make.supply(0.48),
        # how bids are made and judged
        "cmmnSpldmdMethdCd": make.each("joint_bid", itemgetter(0)),
        "cmmnSpldmdMethdNm": make.joint_bid_name,
        "totPrdprcNum": make.each("drawn_prices", itemgetter(0)),
        "drwtPrdprcNum": make.each("drawn_prices", itemgetter(1)),
        "sucsfbidMthdCd": make.each("award_method", itemgetter(0)),
        "sucsfbidMthdNm": make.each("award_method", itemgetter(1)),
        "sucsfbidLwltRate": make.each("floor_rate"),
        "rgnLmtBidLocplcJdgmBssCd": make.each("location", itemgetter(0)),
        "rgnLmtBidLocplcJdgmBssNm": make.each("location", itemgetter(1)),
        "techAbltEvlRt": make.each("technical_share"),
        "bidPrceEvlRt": make.each("technical_share", lambda share: 100 - share),
        "mainCnsttyNm": make.word(pools["trades"]),
        "subsiCnsttyNm": make.word(pools["side_trades"]),
        "indstrytyEvlRt": make.word(pools["ratios"]),
        "subsiCnsttyIndstrytyEvlRt": make.word(pools["ratios"]),
        "cnsttyAccotShreRateList": make.form(pools["trade_shares"], "trade"),
        "cnstrtnAbltyEvlAmtList": make.form(pools["trade_capacities"], "trade"),
        "jntcontrctDutyRgnNm": make.word(list(words().names.regions)),
        "incntvRgnNm": make.word(list(words().names.regions)),
        # goods and services
        "dtilPrdctClsfcNo": make.part("item", "number"),
        "dtilPrdctClsfcNoNm": make.part("item", "name"),
        "prdctSpecNm": make.each("specification"),
        "prdctUnit": make.part("item", "unit"),
        "prdctQty": make.each("quantity"),
        "prdctUprc": make.unit_price,
        "purchsObjPrdctList": make.each("item", lambda item: f"[1^{item.number}^{item.name}]"),
        "pubPrcrmntLrgClsfcNm": make.part("item", "large"),
        "pubPrcrmntMidClsfcNm": make.part("item", "middle"),
        "pubPrcrmntClsfcNo": make.part("item", "number"),
        "pubPrcrmntClsfcNm": make.part("item", "name"),
        # opened bids
        "sucsfLwstlmtRt": make.each("floor_rate"),
        "bssAmt": make.each("budget"),
        "rsrvtnPrce": make.each("reserve_price"),
        "opengDate": make.day("close_day"),
        "opengTm": make.each("opening_time"),
        "opengRank": make.each("lost", lambda lost: "" if lost else "1"),
        "bidprcDate": make.day("close_day", after=-1),
        "bidprcTm": make.word(pools["beginning_times"]),
        "bidprcCorpBizrno": make.part("bidder", "registration"),
        "bidprcCorpNm": make.part("bidder", "name"),
        "bidprcCorpCeoNm": make.part("bidder", "ceo"),
        "bidprcAmt": make.each("bid"),
        "bidprcRt": make.each("bid_rate", make.percent),
        "sucsfYn": make.each("lost", lambda lost: "N" if lost else "Y"),
        "dqlfctnRsn": make.word(pools["disqualified"]),
        "fnlSucsfCorpBizrno": make.part("winner", "registration"),
        "fnlSucsfCorpNm": make.part("winner", "name"),
        "fnlSucsfCorpCeoNm": make.part("winner", "ceo"),
        "fnlSucsfCorpOfclNm": make.part("winner", "official"),
        "fnlSucsfCorpAdrs": make.part("winner", "address"),
        "fnlSucsfCorpContactTel": make.part("winner", "phone"),
        "fnlSucsfAmt": make.each("winning_bid"),
        "fnlSucsfRt": make.each("winning_rate", make.percent),
        "fnlSucsfDate": make.day("close_day", after=3),
        "dataBssDate": make.day("close_day", after=4),
    }
