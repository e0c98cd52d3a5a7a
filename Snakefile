from snakemake.utils import min_version

min_version("9.9")


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/corpora.smk"
include: "workflow/rules/tasks.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/growth.smk"
include: "workflow/rules/calibration.smk"
include: "workflow/rules/merges.smk"
include: "workflow/rules/patches.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/harness.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/landscape.smk"
include: "workflow/rules/weighing.smk"
include: "workflow/rules/diagnosis.smk"
include: "workflow/rules/ablation.smk"
include: "workflow/rules/replication.smk"
include: "workflow/rules/damage.smk"
include: "workflow/rules/report.smk"


rule all:
    input:
        final_targets(),
