rule observe_model:
    input:
        manifests=job_manifests,
        weights=ancient(job_weights),
    output:
        manifest="{folder}/manifest.json",
        cost="{folder}/cost.json",
        counts="{folder}/counts.safetensors",
        representations="{folder}/representations.safetensors",
    log:
        "logs/{folder}.log",
    wildcard_constraints:
        folder=folders_of("observe_model"),
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
        "{resources.launcher} langmerge.observation --spec {params.spec:q} --inputs {params.inputs:q}"
        " --code {params.code:q} --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"


rule measure_models:
    input:
        manifests=job_manifests,
    output:
        manifest="{folder}/manifest.json",
        cost="{folder}/cost.json",
        cka="{folder}/cka.csv",
        neurons="{folder}/neurons.csv",
    log:
        "logs/{folder}.log",
    wildcard_constraints:
        folder=folders_of("measure_models"),
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
        "{resources.launcher} langmerge.analysis --spec {params.spec:q} --inputs {params.inputs:q}"
        " --code {params.code:q} --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"
