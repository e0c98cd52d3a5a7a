rule predict_damage:
    input:
        manifests=job_manifests,
    output:
        manifest="{folder}/manifest.json",
        cost="{folder}/cost.json",
        damage="{folder}/damage.csv",
        predictors="{folder}/predictors.csv",
    log:
        "logs/{folder}.log",
    wildcard_constraints:
        folder=folders_of("predict_damage"),
    conda:
        "../../envs/analysis.yaml"
    params:
        spec=job_spec,
        inputs=job_inputs,
        code=job_code,
        environment=job_environment,
    shell:
        "python -m langmerge.analysis.damage --spec {params.spec:q} --inputs {params.inputs:q}"
        " --code {params.code:q} --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"
