rule evaluate_model:
    input:
        manifests=job_manifests,
        weights=ancient(job_weights),
    output:
        manifest="{folder}/manifest.json",
        cost="{folder}/cost.json",
        scores="{folder}/scores.json",
    log:
        "logs/{folder}.log",
    wildcard_constraints:
        folder=folders_of("evaluate_model"),
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
        "{resources.launcher} langmerge.evaluation --spec {params.spec:q} --inputs {params.inputs:q}"
        " --code {params.code:q} --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"


rule compare_systems:
    input:
        manifests=job_manifests,
    output:
        manifest="{folder}/manifest.json",
        cost="{folder}/cost.json",
        comparisons="{folder}/comparisons.csv",
    log:
        "logs/{folder}.log",
    wildcard_constraints:
        folder=folders_of("compare_systems"),
    conda:
        "../../envs/evaluation.yaml"
    params:
        spec=job_spec,
        inputs=job_inputs,
        code=job_code,
        environment=job_environment,
    shell:
        "python -m langmerge.forkserver langmerge.evaluation.comparison --spec {params.spec:q} --inputs {params.inputs:q}"
        " --code {params.code:q} --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"
