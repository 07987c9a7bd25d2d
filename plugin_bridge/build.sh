#!/bin/sh
# Compiles the plug-in and its test host with mono, into the given directory. On the FAS server itself:
# install/Build-EvidencePlugin.ps1.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: build.sh DIRECTORY [tests]}
mkdir -p "$out"
compile() { mcs -nologo -langversion:5 -warn:4 -warnaserror -optimize+ -r:System.Runtime.Serialization -r:System.Xml -r:System.Core "$@"; }
compile -target:library -out:"$out/EvidencePlugin.dll" "$here"/EvidencePlugin/*.cs
compile -target:exe -r:"$out/EvidencePlugin.dll" -out:"$out/TestHost.exe" "$here"/TestHost/*.cs

# The unit tests need NUnit 2.6, which only the tests do.
nunit=/usr/lib/cli/nunit.framework-2.6.3/nunit.framework.dll
if [ "${2:-}" = tests ]; then
  compile -target:library -r:"$out/EvidencePlugin.dll" -r:"$nunit" -out:"$out/UnitTests.dll" "$here"/UnitTests/*.cs
fi
