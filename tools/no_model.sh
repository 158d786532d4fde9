#!/usr/bin/env bash
# no_model: what `make run` says when the chat model could not be fetched; kith starts all the same.
cat >&2 <<'TEXT'

The local chat model is not here, so nobody answers yet. Either run `make run` again (it goes on
where it stopped), or name a model of yours in a file and start with ARGS='-c kith.yaml':

    models:
      - name: default
        url: http://127.0.0.1:11434/v1      # any OpenAI-compatible server
        model: the-name-it-has-there

TEXT
