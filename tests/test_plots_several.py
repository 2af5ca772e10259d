"""Captions and figures of many embeddings."""

import pandas as pd

from tumorbench_utils.plots import Several
from tumorbench_utils.plots.several import ROWS, TOLD, in_groups, listed


def test_a_caption_has_six_values_and_counts_the_others():
    words = [str(number) for number in range(TOLD + 2)]
    assert listed(words[:TOLD]) == "0; 1; 2; 3; 4; 5"
    assert listed((word for word in words), ", ") == "0, 1, 2, 3, 4, 5, and 2 more"
    assert listed([]) == ""


def test_many_titles_are_drawn_some_at_a_time_and_all_their_rows_with_them():
    titles = [f"M{number}" for number in range(ROWS + 1)]
    table = pd.DataFrame({"title": titles * 2, "value": range(2 * ROWS + 2)})
    drawn = in_groups(table, lambda rows: rows)
    assert isinstance(drawn, Several)
    first, last = drawn.shown
    assert list(first["title"]) == titles[:ROWS] * 2 and list(last["value"]) == [ROWS, 2 * ROWS + 1]
    assert len(in_groups(table, lambda rows: rows, ROWS + 1)) == len(table)
    assert in_groups(table[:0], lambda rows: rows).empty
