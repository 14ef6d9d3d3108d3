import os
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from core.draw.media import Image, Video, encode
from core.errors import GoneError
from core.numbers import plain_number as number
from core.run.event_file import cut_off
from core.run.tensorboard import Writer, read_events, read_scalars
from core.run.window import Window


def test_scalars_come_back_by_tag_and_step(tmp_path):
    writer = Writer(tmp_path)
    writer.scalars({"loss/policy": 0.5, "gradient/norm": 2.0}, 10)
    writer.scalars({"loss/policy": 0.25}, 20)
    writer.close()
    assert read_scalars(tmp_path) == {"loss/policy": {10: 0.5, 20: 0.25}, "gradient/norm": {10: 2.0}}


def test_a_resumed_file_replaces_the_points_it_writes_again(tmp_path):
    first = Writer(tmp_path)
    for step in (1, 2, 3):
        first.scalars({"loss": float(step)}, step)
    first.close()
    second = Writer(tmp_path, purge_step=3)
    second.scalars({"loss": 30.0}, 3)
    second.close()
    assert read_scalars(tmp_path) == {"loss": {1: 1.0, 2: 2.0, 3: 30.0}}


def test_a_resumed_run_takes_back_what_it_does_not_write_again(tmp_path):
    """Killed at 35, resumed from the checkpoint at 20, and logging every 20 steps since."""
    first = Writer(tmp_path)
    for step in (10, 20, 25, 35):
        first.scalars({"loss": float(step), "late": 1.0} if step > 20 else {"loss": float(step)}, step)
    first.close()
    second = Writer(tmp_path, purge_step=21)
    second.scalars({"loss": 4.0}, 40)
    second.close()
    assert read_scalars(tmp_path) == {"loss": {10: 10.0, 20: 20.0, 40: 4.0}}


def test_files_are_read_in_the_order_of_their_making_wherever_they_were_copied(tmp_path):
    """By the numbers in the name: neither its letters nor the times of writing have that order here."""
    names = ("99.host-2.7.0", "100.host-2.7.9", "100.host-2.7.10", "100.host-2.31.0")
    run = tmp_path / "run"
    run.mkdir()
    for age, name in enumerate(names):
        writer = Writer(tmp_path / name, purge_step=age)
        writer.scalars({"loss": float(age)}, age)
        writer.scalars({"loss": float(age)}, 20)
        writer.close()
        (made,) = (tmp_path / name).iterdir()
        moved = made.rename(run / f"events.out.tfevents.{name}")
        os.utime(moved, (10**9 - age, 10**9 - age))
    assert read_scalars(run) == {"loss": {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0, 20: 3.0}}


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]


def test_a_file_cut_off_anywhere_is_whole_and_any_other_damage_is_named(tmp_path):
    writer = Writer(tmp_path)
    for step in range(3):
        writer.scalars({"loss": float(step)}, step)
    writer.close()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        assert read_events(tmp_path)[1] == []
    for place in range(len(whole)):
        path.write_bytes(flipped(whole, place))
        assert read_events(tmp_path)[1] == [path], place
    for data in (random.Random(0).randbytes(5000), bytes(500), whole + bytes(12)):
        path.write_bytes(data)
        assert read_events(tmp_path)[1] == [path]
    assert read_scalars(tmp_path) == {"loss": {0: 0.0, 1: 1.0, 2: 2.0}}  # of the last, before the zeros


def test_the_last_file_is_cut_off_where_it_ends_in_the_middle_of_an_event(tmp_path):
    writer, ends = Writer(tmp_path), [0]
    for step in range(3):
        writer.flush()
        ends.append(writer._path.stat().st_size)
        writer.scalars({"loss": float(step)}, step)
    writer.close()
    assert cut_off(tmp_path) is None
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert cut_off(tmp_path) == (None if size in ends else path), size
    Writer(tmp_path, purge_step=2).close()
    assert cut_off(tmp_path) is None  # a run that was killed goes on in another file


def test_a_file_that_was_taken_away_is_an_error_and_not_silence(tmp_path):
    writer = Writer(tmp_path / "run")
    writer.scalars({"loss": 1.0}, 1)
    (tmp_path / "run").rename(tmp_path / "moved")
    said = (
        f"{tmp_path / 'run'} was removed, moved or emptied while the run was at work: nothing more is written"
    )
    for write in (lambda: writer.scalars({"loss": 1.0}, 2), writer.flush):
        with pytest.raises(GoneError, match=said):
            write()
    writer.close()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_file_is_a_damaged_event_file(tmp_path, make):
    path = tmp_path / "events.out.tfevents.1.host.2.0"
    make(path)
    assert read_events(tmp_path) == ({}, [path])


def test_a_step_costs_one_event(tmp_path):
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

    writer = Writer(tmp_path)
    writer.scalars({f"tag{i}": 1.0 for i in range(20)}, 1)
    writer.close()
    (path,) = tmp_path.glob("events*")
    assert len(list(RawEventFileLoader(str(path)).Load())) == 2  # the file's version, and the step


def hparams(directory):
    """Columns with whether they come first, names of the metrics, and the cells, as the table has them."""
    from tensorboard.plugins.hparams.metadata import (
        parse_experiment_plugin_data,
        parse_session_start_info_plugin_data,
    )

    found = {value.tag: value.metadata.plugin_data.content for value in summaries(directory)}
    experiment = parse_experiment_plugin_data(found["_hparams_/experiment"])
    cells = parse_session_start_info_plugin_data(found["_hparams_/session_start_info"]).hparams
    return (
        [(info.name, info.differs) for info in experiment.hparam_infos],
        {info.name.tag: info.display_name for info in experiment.metric_infos},
        {
            key: cell.number_value if cell.HasField("number_value") else cell.string_value
            for key, cell in cells.items()
        },
    )


def summaries(directory):
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    (path,) = directory.glob("events*")
    return [
        value for raw in RawEventFileLoader(str(path)).Load() for value in Event.FromString(raw).summary.value
    ]


def test_the_table_has_a_column_for_what_was_typed_and_a_cell_for_every_option_but_classes(tmp_path):
    writer = Writer(tmp_path)
    options = {"optimizer.lr": 0.1, "seed": 1, "on": True, "agent._target_": "a.B", "_target_": "c.D"}
    typed = {"agent": "ppo", "optimizer.lr": 0.1, "device": "cpu", "logging.interval": 3}
    writer.hparams(options, typed, (), {"eval/return_mean": "Return, evaluation"})
    writer.close()
    assert [p.is_file() for p in tmp_path.iterdir()] == [True]  # no sub-run
    columns, metrics, cells = hparams(tmp_path)
    assert columns == [("agent", True), ("optimizer.lr", True), ("seed", False)]
    assert metrics == {"eval/return_mean": "Return, evaluation"}
    assert cells == {
        "agent": "ppo", "device": "cpu", "logging.interval": "3", "on": "True", "optimizer.lr": 0.1,
        "seed": "1",
    }  # fmt: skip


def test_in_a_sweep_only_what_differs_is_a_column(tmp_path):
    writer = Writer(tmp_path)
    typed = {"agent": "ppo", "optimizer.lr": 0.1, "tags": ["a"]}
    writer.hparams({"optimizer.lr": 0.1, "seed": 1}, typed, ("optimizer.lr", "gone"), {})
    writer.close()
    assert hparams(tmp_path)[0] == [("optimizer.lr", True), ("tags", True)]


def test_the_layout_is_read_back_as_it_was_written_and_only_its_first_two_sections_are_open(tmp_path):
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    writer = Writer(tmp_path)
    sections = {name: {"Norm": ("gradient/norm$",), "Layers": ("layer/.+/cosine$",)} for name in "abc"}
    writer.layout(sections, 7)
    writer.close()
    (value,) = summaries(tmp_path)
    assert value.metadata.plugin_data.plugin_name == "custom_scalars"
    found = Layout.FromString(value.tensor.string_val[0]).category
    assert [section.closed for section in found] == [False, False, True]
    assert {s.title: {c.title: tuple(c.multiline.tag) for c in s.chart} for s in found} == sections


def test_a_video_is_a_gif_of_all_its_frames(tmp_path):
    frames = np.zeros((5, 8, 10, 3), dtype=np.uint8)
    frames[:, 2:5, 2:5] = np.arange(5, dtype=np.uint8)[:, None, None, None] * 50
    data, ending = encode(Video(frames, fps=10))
    (tmp_path / f"a.{ending}").write_bytes(data)
    with Pillow.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 5
        assert gif.size == (10, 8)
        assert gif.info["duration"] == 100


@pytest.mark.parametrize("bad", [np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8)])
def test_pixels_of_another_kind_are_refused(bad):
    with pytest.raises(ValueError, match="wants uint8 pixels"):
        encode(Image(bad))


def test_a_window_averages_each_tag_over_the_iterations_that_had_it():
    import torch

    window = Window()
    window.add({"a": torch.tensor(1.0), "b": torch.tensor(5.0)})
    window.add({"a": torch.tensor(2.0)})
    again = Window()
    again.load_state_dict(window.state_dict())
    assert window.drain() == again.drain() == {"a": 1.5, "b": 5.0}
    for episodes in ([1.0], [2.0, 3.0, 6.0]):
        window.add({"a": torch.tensor(episodes)})
    assert window.drain() == {"a": 3.0}  # each element counts once
    assert window.drain() == {}


def test_numbers_are_short():
    assert [number(x) for x in (0.123456, 475.0, 123456.7)] == ["0.1235", "475", "123,457"]
