"""Where models come from: `init` (random weights), `import_model` (existing ones), and training on a mixture."""
