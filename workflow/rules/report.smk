rule write_report:
    input:
        manifests=job_manifests,
    output:
        manifest="{folder}/manifest.json",
        cost="{folder}/cost.json",
        html="{folder}/report.html",
        pdf="{folder}/report.pdf",
    log:
        "logs/{folder}.log",
    wildcard_constraints:
        folder=folders_of("write_report"),
    conda:
        "../../envs/reporting.yaml"
    # Figures are drawn side by side.
    threads: 2
    params:
        spec=job_spec,
        inputs=job_inputs,
        code=job_code,
        environment=job_environment,
    shell:
        "python -m langmerge.reporting --spec {params.spec:q} --inputs {params.inputs:q}"
        " --code {params.code:q} --environment {params.environment:q} --out {wildcards.folder:q} > {log:q} 2>&1"
