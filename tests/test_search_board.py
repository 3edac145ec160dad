"""The study on disk: shared by processes, whole after a kill."""

import multiprocessing
import os
import signal
import time

from compress.search.board import Board
from compress.search.halving import Job, Result
from compress.search.space import Structure

JOBS = [Job(Structure(layers, 32, 0.3, 1.0, 20), "shape") for layers in range(1, 13)]
CONTEXT = multiprocessing.get_context("spawn")


def open_jobs(results):
    return [job for job in JOBS if job not in results]


def work(folder, name):
    """Do all jobs that are left, a hundredth of a second each; write down which."""
    board = Board(folder, "key")
    while True:
        with board.claim(open_jobs) as claim:
            if claim is None:
                return
            time.sleep(0.01)
            with (folder / name).open("a") as file:
                file.write(f"{claim.job.structure.layers}\n")
            claim.finish(Result(score=claim.job.structure.layers, seconds=1))


def hang(folder):
    """Take a job and never end."""
    with Board(folder, "key").claim(open_jobs) as claim:
        (folder / "taken").write_text(str(claim.job.structure.layers))
        time.sleep(600)


def test_results_are_there_for_the_next_process(tmp_path):
    with Board(tmp_path, "key").claim(open_jobs) as claim:
        claim.finish(Result(score=88.5, divergence=0.2, seconds=3))
    with Board(tmp_path, "key").claim(open_jobs) as claim:
        assert claim.job == JOBS[1]
        claim.finish(Result(error="no export"))

    found = Board(tmp_path, "key").results()
    assert found == {JOBS[0]: Result(88.5, 0.2, 3), JOBS[1]: Result(error="no export")}
    assert Board(tmp_path, "another key").results() == {}


def test_two_processes_share_all_jobs_and_repeat_none(tmp_path):
    workers = [CONTEXT.Process(target=work, args=(tmp_path, name)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)

    done = [(tmp_path / name).read_text().split() for name in ("a", "b") if (tmp_path / name).exists()]
    assert sorted(int(each) for one in done for each in one) == [job.structure.layers for job in JOBS]
    assert {job: result.score for job, result in Board(tmp_path, "key").results().items()} == {
        job: job.structure.layers for job in JOBS
    }


def test_the_job_of_a_killed_process_is_given_out_again(tmp_path):
    worker = CONTEXT.Process(target=hang, args=(tmp_path,))
    worker.start()
    while not (tmp_path / "taken").exists():
        assert worker.is_alive()
        time.sleep(0.05)
    board = Board(tmp_path, "key")
    with board.claim(open_jobs) as claim:  # the first is being done
        assert claim.job == JOBS[1]
        claim.finish(Result(score=1))

    os.kill(worker.pid, signal.SIGKILL)
    worker.join(60)

    with board.claim(open_jobs) as claim:
        assert claim.job == JOBS[0]
        claim.finish(Result(score=2))
    assert board.results() == {JOBS[0]: Result(score=2), JOBS[1]: Result(score=1)}


def test_an_error_in_between_gives_the_job_back(tmp_path):
    board = Board(tmp_path, "key")
    try:
        with board.claim(open_jobs):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass

    with board.claim(open_jobs) as claim:
        assert claim.job == JOBS[0]
        claim.finish(Result(score=1))
    assert board.results() == {JOBS[0]: Result(score=1)}


def test_nothing_is_claimed_where_all_is_done(tmp_path):
    with Board(tmp_path, "key").claim(lambda results: []) as claim:
        assert claim is None
