rule replicate_measurements:
    input:
        manifests=job_manifests,
    output:
        manifest="{folder}/manifest.json",
        cost="{folder}/cost.json",
        replication="{folder}/replication.csv",
    log:
        "logs/{folder}.log",
    wildcard_constraints:
        folder=folders_of("replicate_measurements"),
    conda:
        "../../envs/analysis.yaml"
    params:
        spec=job_spec,
        inputs=job_inputs,
        code=job_code,
        environment=job_environment,
    shell:
        "python -m langmerge.analysis.replication --spec {params.spec:q} --inputs {params.inputs:q}"
        " --code {params.code:q} --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"
