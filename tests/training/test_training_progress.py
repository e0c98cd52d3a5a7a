import io

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from langmerge.training.progress import Curves, Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_file_gets_few_lines():
    stream = io.StringIO()
    progress = Progress(100, 0, stream)
    for step in range(1, 101):
        progress.show(step, 1.5, 0.1)
    progress.close()
    assert stream.getvalue() == "step 100/100 loss 1.500 lr 1.0e-01\n"


def test_a_terminal_gets_a_bar_that_starts_where_the_run_resumes():
    stream = Terminal()
    progress = Progress(100, 40, stream)
    progress.show(50, 1.5, 0.1)
    progress.close()
    assert "40/100" in stream.getvalue() and "50/100" in stream.getvalue() and "loss=1.500" in stream.getvalue()


def test_curves_are_read_by_tensorboard(tmp_path):
    with Curves(tmp_path) as curves:
        for step in (1, 2):
            curves.add(step, loss=step / 2)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(point.step, point.value) for point in events.Scalars("loss")] == [(1, 0.5), (2, 1.0)]


def test_no_folder_no_curves():
    with Curves(None) as curves:
        curves.add(1, loss=0.0)
