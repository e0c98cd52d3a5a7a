rule prepare_tasks:
    input:
        files=job_files,
    output:
        manifest="{folder}/manifest.json",
        cost="{folder}/cost.json",
    log:
        "logs/{folder}.log",
    wildcard_constraints:
        folder=folders_of("prepare_tasks"),
    priority: FIRST
    conda:
        "../../envs/corpora.yaml"
    params:
        spec=job_spec,
        code=job_code,
        environment=job_environment,
    shell:
        "python -m langmerge.corpora.tasks --spec {params.spec:q} --code {params.code:q}"
        " --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"
