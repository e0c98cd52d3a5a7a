rule calibrate_model:
    input:
        manifests=job_manifests,
        weights=ancient(job_weights),
    output:
        manifest="{folder}/manifest.json",
        cost="{folder}/cost.json",
        weights="{folder}/model.safetensors",
    log:
        "logs/{folder}.log",
    wildcard_constraints:
        folder=folders_of("calibrate_model"),
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
        "{resources.launcher} langmerge.calibration --spec {params.spec:q} --inputs {params.inputs:q}"
        " --code {params.code:q} --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"


rule calibrate_models:
    input:
        manifests=job_manifests,
        weights=ancient(job_weights),
    output:
        manifest="{folder}/manifest.json",
        cost="{folder}/cost.json",
        measured=directory("{folder}/measured"),
    log:
        "logs/{folder}.log",
    wildcard_constraints:
        folder=folders_of("calibrate_models"),
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
        "{resources.launcher} langmerge.calibration --spec {params.spec:q} --inputs {params.inputs:q}"
        " --code {params.code:q} --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"
