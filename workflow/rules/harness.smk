rule run_harness:
    input:
        manifests=job_manifests,
        weights=ancient(job_weights),
        files=job_files,
    output:
        manifest="{folder}/manifest.json",
        cost="{folder}/cost.json",
        scores="{folder}/scores.json",
    log:
        "logs/{folder}.log",
    wildcard_constraints:
        folder=folders_of("run_harness"),
    conda:
        "../../envs/evaluation.yaml"
    resources:
        gpu=job_gpus,
        launcher=job_launcher,
    params:
        spec=job_spec,
        inputs=job_inputs,
        code=job_code,
        environment=job_environment,
    shell:
        "{resources.launcher} langmerge.evaluation.harness --spec {params.spec:q} --inputs {params.inputs:q}"
        " --code {params.code:q} --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"
