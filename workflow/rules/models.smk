rule init_model:
    input:
        manifests=job_manifests,
    output:
        manifest="{folder}/manifest.json",
        cost="{folder}/cost.json",
        weights="{folder}/model.safetensors",
    log:
        "logs/{folder}.log",
    wildcard_constraints:
        folder=folders_of("init_model"),
    priority: FIRST
    conda:
        "../../envs/training.yaml"
    params:
        spec=job_spec,
        inputs=job_inputs,
        code=job_code,
        environment=job_environment,
    shell:
        "python -m langmerge.forkserver langmerge.training.init --spec {params.spec:q} --inputs {params.inputs:q}"
        " --code {params.code:q} --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"


rule import_model:
    input:
        files=job_files,
    output:
        manifest="{folder}/manifest.json",
        cost="{folder}/cost.json",
        weights="{folder}/model.safetensors",
    log:
        "logs/{folder}.log",
    wildcard_constraints:
        folder=folders_of("import_model"),
    priority: FIRST
    conda:
        "../../envs/training.yaml"
    params:
        spec=job_spec,
        inputs=job_inputs,
        code=job_code,
        environment=job_environment,
    shell:
        "python -m langmerge.forkserver langmerge.training.import_model --spec {params.spec:q} --inputs {params.inputs:q}"
        " --code {params.code:q} --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"


rule train_model:
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
        folder=folders_of("train_model"),
    priority: FIRST
    conda:
        "../../envs/training.yaml"
    threads: job_threads
    resources:
        gpu=job_gpus,
        launcher=job_launcher,
    params:
        spec=job_spec,
        inputs=job_inputs,
        code=job_code,
        environment=job_environment,
    shell:
        "{resources.launcher} langmerge.training --spec {params.spec:q} --inputs {params.inputs:q}"
        " --code {params.code:q} --environment {params.environment:q} --out {wildcards.folder:q} --work work/{wildcards.folder:q} > {log:q} 2>&1"
