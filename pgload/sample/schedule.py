"""When things happen to a notice: announced, bidding from and to, opened."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from functools import cache, cached_property

from pgload.sample.draws import Draws


@cache
def workdays() -> tuple[str, ...]:
    """The working days from June 2025, the month of the sample, to the last delivery."""
    holidays = {"2025-06-03", "2025-06-06", "2025-08-15"}
    days = (date(2025, 6, 2) + timedelta(days=offset) for offset in range(700))
    return tuple(
        day.isoformat() for day in days if day.weekday() < 5 and day.isoformat() not in holidays
    )


class Schedule(Draws):
    """Days, as indexes of `workdays`, and times; a revision has its own."""

    @cached_property
    def notice_day(self) -> list[int]:
        """The working day of the notice; a revision comes after what it revises."""
        days = self.pick("notice day", range(19), repeat=False)
        pauses = self.pick("revision pause", {1: 5, 2: 3, 3: 1}, repeat=False)
        for row, (previous, pause) in enumerate(zip(self.previous, pauses, strict=True)):
            if previous != row:
                days[row] = days[previous] + pause
        return days

    @cached_property
    def begin_day(self) -> list[int]:
        """The first working day of bidding, after the notice's."""
        return self._later(self.notice_day, "begin", {1: 10, 2: 5, 3: 3, 4: 1})

    @cached_property
    def close_day(self) -> list[int]:
        """The last working day of bidding, when bids are opened too."""
        return self._later(self.begin_day, "close", {2: 8, 3: 8, 4: 5, 5: 4, 8: 2, 12: 1, 18: 1})

    def _later(self, days: list[int], name: str, pauses: Mapping[int, int]) -> list[int]:
        drawn = self.pick(f"{name} pause", pauses, repeat=False)
        return [day + pause for day, pause in zip(days, drawn, strict=True)]

    @cached_property
    def close_time(self) -> list[str]:
        """When bidding ends on `close_day`."""
        return self.pick_word("closing_times", repeat=False)

    @cached_property
    def opening_time(self) -> list[str]:
        """When bids are opened: some hours later."""
        delays = self.pick_word("opening_delays", repeat=False)
        return [
            f"{int(time[:2]) + int(delay):02}{time[2:]}"
            for time, delay in zip(self.close_time, delays, strict=True)
        ]

    @cached_property
    def close_moment(self) -> list[str]:
        """Day and time of the end of bidding."""
        return self._moments(self.close_time)

    @cached_property
    def opening_moment(self) -> list[str]:
        """Day and time when bids are opened."""
        return self._moments(self.opening_time)

    def _moments(self, times: list[str]) -> list[str]:
        days = workdays()
        return [f"{days[day]} {time}:00" for day, time in zip(self.close_day, times, strict=True)]
