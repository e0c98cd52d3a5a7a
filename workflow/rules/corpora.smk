rule prepare_corpus:
    input:
        files=job_files,
    output:
        manifest="{folder}/manifest.json",
        cost="{folder}/cost.json",
        splits=multiext("{folder}/", "train.jsonl", "dev.jsonl", "test.jsonl"),
    log:
        "logs/{folder}.log",
    wildcard_constraints:
        folder=folders_of("prepare_corpus"),
    priority: FIRST
    conda:
        "../../envs/corpora.yaml"
    params:
        spec=job_spec,
        code=job_code,
        environment=job_environment,
    shell:
        "python -m langmerge.corpora.prepare --spec {params.spec:q} --code {params.code:q}"
        " --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"


rule check_corpora:
    input:
        manifests=job_manifests,
    output:
        manifest="{folder}/manifest.json",
        cost="{folder}/cost.json",
        contamination="{folder}/contamination.json",
    log:
        "logs/{folder}.log",
    wildcard_constraints:
        folder=folders_of("check_corpora"),
    conda:
        "../../envs/corpora.yaml"
    params:
        spec=job_spec,
        inputs=job_inputs,
        code=job_code,
        environment=job_environment,
    shell:
        "python -m langmerge.corpora.contamination --spec {params.spec:q} --inputs {params.inputs:q}"
        " --code {params.code:q} --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"
