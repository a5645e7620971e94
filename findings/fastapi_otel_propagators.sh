#!/bin/sh
# fastapi 0.165.0 imports opentelemetry's propagators, which are chosen while they are imported: an application that has
# nothing to do with traces does not start where the machine's OTEL_PROPAGATORS names one that its environment lacks.
# "jaeger" and "b3" come with packages of their own, and both are ordinary values, set for a whole host or cluster.
# The error is raised by `import fastapi`, before any code of the application runs, and OTEL_SDK_DISABLED=true does not
# help, as that is read by the SDK, which is not even installed here.
#
# It matters to everybody who deploys a FastAPI service where somebody else sets OTEL_… for all containers: it ends with
# a traceback that names neither FastAPI nor the service. Unset OTEL_PROPAGATORS for it, or give it
# "tracecontext,baggage", or install the propagator's package.
#
# Output seen with fastapi 0.165.0 and opentelemetry-api 1.45.2:
#   fastapi 0.165.0, opentelemetry-api 1.45.2
#   OTEL_PROPAGATORS unset: imported
#   OTEL_PROPAGATORS=tracecontext,baggage: imported
#   OTEL_PROPAGATORS=b3: ValueError: Propagator b3 not found. It is either misspelled or not installed.
#   OTEL_PROPAGATORS=b3 OTEL_SDK_DISABLED=true: ValueError: Propagator b3 not found. It is either misspelled or not installed.
# Fails if the import succeeds with a propagator that is not installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install 'fastapi==0.165.0' 'opentelemetry-api==1.45.2'
cat >"$folder/start.py" <<'PY'
try:
    import fastapi
except ValueError as error:
    print(f"ValueError: {error}")
else:
    print("imported")
PY
unset OTEL_PROPAGATORS OTEL_SDK_DISABLED || true
python="$folder/venv/bin/python"
"$python" -c 'from importlib.metadata import version
print("fastapi " + version("fastapi") + ", opentelemetry-api " + version("opentelemetry-api"))'
seen=$("$python" "$folder/start.py")
echo "OTEL_PROPAGATORS unset: $seen"
test "$seen" = imported
seen=$(OTEL_PROPAGATORS=tracecontext,baggage "$python" "$folder/start.py")
echo "OTEL_PROPAGATORS=tracecontext,baggage: $seen"
test "$seen" = imported
seen=$(OTEL_PROPAGATORS=b3 "$python" "$folder/start.py")
echo "OTEL_PROPAGATORS=b3: $seen"
test "${seen#ValueError}" != "$seen"
seen=$(OTEL_PROPAGATORS=b3 OTEL_SDK_DISABLED=true "$python" "$folder/start.py")
echo "OTEL_PROPAGATORS=b3 OTEL_SDK_DISABLED=true: $seen"
test "${seen#ValueError}" != "$seen"
