rule diagnose_pairs:
    input:
        manifests=job_manifests,
        weights=ancient(job_weights),
    output:
        manifest="{folder}/manifest.json",
        cost="{folder}/cost.json",
        pairs="{folder}/pairs.csv",
        layers="{folder}/layers.csv",
        curve="{folder}/curve.csv",
    log:
        "logs/{folder}.log",
    wildcard_constraints:
        folder=folders_of("diagnose_pairs"),
    conda:
        "../../envs/analysis.yaml"
    resources:
        gpu=job_gpus,
        launcher=job_launcher,
    params:
        spec=job_spec,
        inputs=job_inputs,
        code=job_code,
        environment=job_environment,
    shell:
        "{resources.launcher} langmerge.diagnosis --spec {params.spec:q} --inputs {params.inputs:q}"
        " --code {params.code:q} --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"
