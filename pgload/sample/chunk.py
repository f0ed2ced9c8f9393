"""What the columns of a thousand sample records are made from: shared, so that fields agree."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from pgload.sample import parties
from pgload.sample.draws import ROWS
from pgload.sample.fields import KINDS
from pgload.sample.parties import Company, Desk, Item
from pgload.sample.schedule import Schedule
from pgload.sample.words import coded_pool, words

FIRST_SERIAL = 800_000
OTHER_BUYER = 0.15  # share of notices given on behalf of another institution
# With its tax just below the largest amount seen in public data; for one notice of the first chunk.
LARGEST_PRICE, LARGEST_PRICE_ROW = 522_122_000_000_000, 211
NOTICE_PAGE = "https://www.g2b.go.kr/link/PNPE027_01/single/?bidPbancNo={}&bidPbancOrd={}"
# What follows the thing in a title: a word of each of these pools.
TITLES = {
    "CNSTWK": ("works", "title_tails"),
    "SERVC": ("serving",),
    "THNG": ("buying",),
    "FRGCPT": ("foreign",),
    "SCSBID": ("works", "title_tails"),
}
# What rules call a kind's subject; the words have them for construction.
WORK = {"CNSTWK": "공사", "SERVC": "용역", "THNG": "물품", "FRGCPT": "외자", "SCSBID": "공사"}
DOCUMENT = (
    "https://www.g2b.go.kr/pn/pnp/pnpe/UntyAtchFile/downloadFile.do"
    "?bidPbancNo={}&bidPbancOrd={}&fileType=&fileSeq="
)


class Chunk(Schedule):
    """The rows behind the columns, each made when first asked for.

    Amounts are in won and whole: fractions would not be the same everywhere.
    """

    @cached_property
    def serial(self) -> list[int]:
        """A number for each notice: never the same for two, in any kind."""
        # Three numbers for each record and kind, one of them used: growing, with gaps.
        gaps = self.pick("serial", (0, 1, 2))
        first, place = self.index * ROWS, KINDS.index(self.kind)
        return [
            FIRST_SERIAL + ((first + row) * len(KINDS) + place) * 3 + gap
            for row, gap in zip(self.origin, gaps, strict=True)
        ]

    @cached_property
    def number(self) -> list[str]:
        """The notice's number; with `order` the key of a record."""
        return [f"R25BK{serial:08}" for serial in self.serial]

    @cached_property
    def order(self) -> list[str]:
        """The revision as three digits, 000 for the first."""
        return [f"{revision:03}" for revision in self.revision]

    @cached_property
    def desk(self) -> list[Desk]:
        """Who gives notice."""
        return self.pick("desk", parties.desks())

    @cached_property
    def buyer(self) -> list[Desk]:
        """Who needs the work: mostly who gives notice, now and then another institution."""
        others, draws = self.pick("buyer", parties.desks()), self.draw("buyer")
        return [
            other if draw < OTHER_BUYER else desk
            for desk, other, draw in zip(self.desk, others, draws, strict=True)
        ]

    @cached_property
    def unit(self) -> list[str]:
        """The last word of the institution's name, as people call it."""
        return [desk.unit for desk in self.desk]

    @cached_property
    def item(self) -> list[Item]:
        """What is built, done or bought."""
        return self.pick("item", parties.items(self.kind))

    @cached_property
    def thing(self) -> list[str]:
        """The item and the village it is for."""
        villages = self.pick("village", words().names.villages)
        return [f"{village} {item.name}" for village, item in zip(villages, self.item, strict=True)]

    @cached_property
    def title(self) -> list[str]:
        """The notice's title."""
        years, *hows = (self.pick_word(pool) for pool in ("years", *TITLES[self.kind]))
        return [
            f"{year}{desk.region.split()[-1]} {thing}{''.join(how)}"
            for year, desk, thing, *how in zip(years, self.desk, self.thing, *hows, strict=True)
        ]

    @cached_property
    def price(self) -> list[int]:
        """The estimated price in won, without tax."""
        digits = self.pick_number("price_digits")
        draws = self.draw("price")
        # Three to eight leading digits count, as people estimate.
        prices = [
            int(10 ** (count - 1) * (1 + 9 * draw)) // 10 ** (count // 3) * 10 ** (count // 3)
            for count, draw in zip(digits, draws, strict=True)
        ]
        if self.index == 0:
            notice = self.origin[LARGEST_PRICE_ROW]
            for row, origin in enumerate(self.origin):
                if origin == notice:
                    prices[row] = LARGEST_PRICE
        return prices

    @cached_property
    def budget(self) -> list[int]:
        """Price and tax in won."""
        return [price + price // 10 for price in self.price]

    @cached_property
    def joint_bid(self) -> list[tuple[str, str]]:
        """Code and name of how a joint bid is made, for notices that allow one."""
        return self.pick("joint_bids", coded_pool(words().joint_bids))

    @cached_property
    def award_method(self) -> list[tuple[str, str]]:
        """Code and name of how the winner is decided."""
        drawn = self.pick("award_methods", coded_pool(words().award_methods))
        return [(code, name.replace("공사", WORK[self.kind])) for code, name in drawn]

    @cached_property
    def drawn_prices(self) -> list[tuple[str, str]]:
        """How many reserve prices there are, and how many of them are drawn."""
        return self.pick("drawn_prices", coded_pool(words().drawn_prices))

    @cached_property
    def main_price(self) -> list[int]:
        """The main trade's part of the price."""
        percent = self.pick("main trade", range(40, 100))
        return [price * share // 100 for price, share in zip(self.price, percent, strict=True)]

    @cached_property
    def trade(self) -> list[str]:
        """A trade that the work needs."""
        return self.pick_word("trades")

    @cached_property
    def quantity(self) -> list[int]:
        """How many are bought."""
        return self.pick_number("quantities")

    @cached_property
    def specification(self) -> list[str]:
        """What is bought, more closely."""
        notes = self.pick_word("specifications")
        return [item.name + note for item, note in zip(self.item, notes, strict=True)]

    @cached_property
    def technical_share(self) -> list[int]:
        """What the technical evaluation counts, in percent; the price counts the rest."""
        return self.pick_number("technical_shares")

    @cached_property
    def location(self) -> list[tuple[str, str]]:
        """Code and name of which of a company's addresses decides where it is from."""
        return self.pick("locations", coded_pool(words().locations))

    @cached_property
    def notice_url(self) -> list[str]:
        """The notice's page."""
        return [
            NOTICE_PAGE.format(number, order)
            for number, order in zip(self.number, self.order, strict=True)
        ]

    @cached_property
    def document_url(self) -> list[str]:
        """Where the notice's documents are, without the document's number."""
        return [
            DOCUMENT.format(number, order)
            for number, order in zip(self.number, self.order, strict=True)
        ]

    @cached_property
    def bidder(self) -> list[Company]:
        """Whose bid the record is about."""
        return self.pick("bidder", parties.companies())

    @cached_property
    def winner(self) -> list[Company]:
        """Who won: the bidder, unless disqualified."""
        others = self.pick("winner", parties.companies())
        return [
            other if lost else bidder
            for bidder, other, lost in zip(self.bidder, others, self.lost, strict=True)
        ]

    @cached_property
    def lost(self) -> list[bool]:
        """Whether the bid was disqualified."""
        return self.filled("dqlfctnRsn")

    @cached_property
    def reserve_price(self) -> list[int]:
        """The price in won that bids are held against: the budget, give or take two percent."""
        permille = self.pick("reserve", range(980, 1021))
        return [amount * share // 1000 for amount, share in zip(self.budget, permille, strict=True)]

    @cached_property
    def floor_rate(self) -> list[str]:
        """The percentage of the reserve price below which no bid wins."""
        return self.pick_word("floor_rates")

    @cached_property
    def bid_rate(self) -> list[int]:
        """The bid in thousandths of a percent of the reserve price; below the floor it lost."""
        above = self.pick("bid rate", range(1, 900))
        return [
            int(floor.replace(".", "")) + (-step if lost else step)
            for floor, step, lost in zip(self.floor_rate, above, self.lost, strict=True)
        ]

    @cached_property
    def bid(self) -> list[int]:
        """The bid in won."""
        return self._share_of_reserve(self.bid_rate)

    @cached_property
    def winning_rate(self) -> list[int]:
        """As `bid_rate`, of the bid that won."""
        above = self.pick("winning rate", range(1, 900))
        return [
            int(floor.replace(".", "")) + step if lost else rate
            for floor, step, lost, rate in zip(
                self.floor_rate, above, self.lost, self.bid_rate, strict=True
            )
        ]

    @cached_property
    def winning_bid(self) -> list[int]:
        """The bid that won, in won."""
        return self._share_of_reserve(self.winning_rate)

    def _share_of_reserve(self, rates: Sequence[int]) -> list[int]:
        return [
            price * rate // 100_000 for price, rate in zip(self.reserve_price, rates, strict=True)
        ]
