"""curves.csv: a whole table at any moment, every number to the bit, no row twice."""

import csv
import math
from pathlib import Path

import pytest

from core.run.loggers.csv import FILE, Table


def rows(path: Path) -> list[list[str]]:
    with (path / FILE).open(newline="") as file:
        return list(csv.reader(file))


def test_a_step_is_a_row_and_a_tag_is_a_column_however_often_a_step_is_written(tmp_path):
    table = Table(tmp_path / FILE, None)
    table.scalars({"loss/b": 0.5, "loss/a": 0.1}, 10)
    table.scalars({"loss/a": 0.2, "loss/b": 2.0}, 20)
    table.scalars({"eval/return": 7.0}, 20)
    table.scalars({"loss/a": 0.3}, 30)
    table.scalars({"eval/return": 8.0, "loss/a": 0.25}, 30)
    assert rows(tmp_path) == [
        ["step", "loss/a", "loss/b", "eval/return"],
        ["10", "0.1", "0.5", ""],
        ["20", "0.2", "2.0", "7.0"],
        ["30", "0.25", "", "8.0"],
    ]
    table.close()


def test_every_number_is_read_back_to_the_bit(tmp_path):
    values = [0.1 + 0.2, 1e-310, -0.0, 1e22 / 3, math.inf, -math.inf, math.nan, 1 / 3]
    table = Table(tmp_path / FILE, None)
    for step, value in enumerate(values):
        table.scalars({"x": value, 'a "tag", of one': 1.0, "whole": step}, step)
    table.close()
    header, *lines = rows(tmp_path)
    assert header == ["step", 'a "tag", of one', "whole", "x"]
    assert [float(line[3]).hex() for line in lines] == [value.hex() for value in values]
    assert [[int(line[0]), float(line[1]), float(line[2])] for line in lines] == [[i, 1, i] for i in range(8)]


def test_pandas_reads_it_in_one_call(tmp_path):
    pandas = pytest.importorskip("pandas")
    table = Table(tmp_path / FILE, None)
    table.scalars({"loss": 0.1 + 0.2}, 10)
    table.scalars({"loss": math.inf, "eval": -2.5}, 20)
    table.close()
    frame = pandas.read_csv(tmp_path / FILE, index_col="step", float_precision="round_trip")
    assert list(frame.index) == [10, 20]
    assert list(frame["loss"]) == [0.1 + 0.2, math.inf]
    assert math.isnan(frame["eval"][10])
    assert frame["eval"][20] == -2.5


@pytest.mark.parametrize("rest", [b"", b"40,", b"40,0.4", b"40,0.4,1.0,2.0\n7\n"])
def test_a_resumed_table_is_the_one_that_nothing_interrupted(tmp_path, rest):
    def written(path: Path, kept: int | None, steps: range) -> None:
        table = Table(path / FILE, kept)
        for step in steps:
            table.scalars({"a": step / 3}, step)
            if step % 20 == 0:
                table.scalars({"e": float(step)}, step)
        table.close()

    for folder in ("whole", "run"):
        (tmp_path / folder).mkdir()
    written(tmp_path / "whole", None, range(10, 71, 10))
    written(tmp_path / "run", None, range(10, 51, 10))
    with (tmp_path / "run" / FILE).open("ab") as file:
        file.write(rest)  # what a kill has left of a row
    written(tmp_path / "run", 30, range(40, 71, 10))
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")


def test_the_row_at_which_a_run_is_resumed_can_still_be_completed(tmp_path):
    table = Table(tmp_path / FILE, None)
    table.scalars({"a": 1.0}, 10)
    table.scalars({"a": 2.0}, 20)
    table.close()
    again = Table(tmp_path / FILE, 20)
    again.scalars({"e": 5.0}, 20)
    again.close()
    assert rows(tmp_path)[1:] == [["10", "1.0", ""], ["20", "2.0", "5.0"]]


def test_a_run_that_begins_again_begins_the_table_again(tmp_path):
    for value in (1.0, 2.0):
        table = Table(tmp_path / FILE, None)
        table.scalars({"a": value}, 10)
        table.close()
    assert rows(tmp_path) == [["step", "a"], ["10", "2.0"]]


def test_at_every_moment_the_file_on_disk_is_whole(tmp_path):
    table = Table(tmp_path / FILE, None)
    for step in range(1, 5):
        table.scalars({"a": 1 / step}, step)
        assert [int(row[0]) for row in rows(tmp_path)[1:]] == list(range(1, step + 1))
        assert float(rows(tmp_path)[-1][1]) == 1 / step
    table.close()
