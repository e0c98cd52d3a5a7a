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
    conda:
        "../../envs/merging.yaml"
    wildcard_constraints:
        folder=folders_of("merge_models"),
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
    conda:
        "../../envs/evaluation.yaml"
    wildcard_constraints:
        folder=folders_of("sweep_merges"),
    resources:
        gpu=job_gpus,
    params:
        spec=job_spec,
        inputs=job_inputs,
        code=job_code,
        environment=job_environment,
    shell:
        "python -m langmerge.sweeping --spec {params.spec:q} --inputs {params.inputs:q}"
        " --code {params.code:q} --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"
