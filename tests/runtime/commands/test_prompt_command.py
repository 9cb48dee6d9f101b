"""`-p` from the outside, with whichever engine there is."""


def test_answer_goes_to_standard_output(engine_artifact, run):
    done = run(engine_artifact, "-p", "hello there", "--temp", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() and done.stdout.endswith("\n")
