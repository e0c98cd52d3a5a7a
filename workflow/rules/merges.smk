rule merge_models:
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
        folder=folders_of("merge_models"),
    conda:
        "../../envs/merging.yaml"
    params:
        spec=job_spec,
        inputs=job_inputs,
        code=job_code,
        environment=job_environment,
    shell:
        "python -m langmerge.merging --spec {params.spec:q} --inputs {params.inputs:q}"
        " --code {params.code:q} --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"


rule sweep_merges:
    input:
        manifests=job_manifests,
        weights=ancient(job_weights),
    output:
        manifest="{folder}/manifest.json",
        cost="{folder}/cost.json",
        selection="{folder}/selection.json",
        merged=kept(directory("{folder}/merged")),
    log:
        "logs/{folder}.log",
    wildcard_constraints:
        folder=folders_of("sweep_merges"),
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
        "{resources.launcher} langmerge.sweeping --spec {params.spec:q} --inputs {params.inputs:q}"
        " --code {params.code:q} --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"
