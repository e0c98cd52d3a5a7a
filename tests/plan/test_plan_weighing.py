"""The job that weighs task vectors: one for each direction group and seed, on weights alone."""

ROOT = "results/translation"


def weighing(plan):
    return {job.folder: job for job in plan.jobs.values() if job.rule == "weigh_models"}


def test_one_job_for_each_group_and_seed(build):
    plan = build({"seeds": [3, 5]})
    found = weighing(plan)
    assert set(found) == {f"{ROOT}/weighing/seed{s}/{g}" for s in (3, 5) for g in ("from-en", "to-en")}
    job = found[f"{ROOT}/weighing/seed5/to-en"]
    assert job.spec["specialists"] == ["es-en", "it-en", "de-en", "tr-en"]
    assert job.spec["merges"] == list(plan.study.analysis.merges)
    assert job.inputs["models/base"] == f"{ROOT}/models/trained/seed5/base"
    assert job.inputs["models/de-en"] == f"{ROOT}/models/trained/seed5/de-en"
    for method in job.spec["merges"]:
        assert job.inputs[f"models/{method}"] == f"{ROOT}/sweeps/seed5/to-en.all/merged/{method}"
    assert set(job.inputs) == {f"models/{x}" for x in ("base", *job.spec["specialists"], *job.spec["merges"])}


def test_the_report_reads_it_and_no_analysis_leaves_it_out(build):
    plan = build()
    assert {f"weighing/seed1/{g}" for g in ("from-en", "to-en")} <= set(plan.report.inputs)
    assert not weighing(build({"analysis": None}))


def test_nothing_that_is_measured_on_sentences_concerns_it(build):
    old, new = build(), build({"analysis.sentences": 9, "evaluation.test": 7, "analysis.permutations": 3})
    assert {f: job.spec for f, job in weighing(old).items()} == {f: job.spec for f, job in weighing(new).items()}
    fewer = weighing(build({"analysis.merges": ["linear"]}))
    assert all(job.spec["merges"] == ["linear"] for job in fewer.values())
