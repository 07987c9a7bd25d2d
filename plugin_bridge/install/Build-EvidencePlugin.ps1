<#
.SYNOPSIS
Compiles the evidence plug-in with the compiler that Windows brings along.

.DESCRIPTION
Nothing is downloaded and nothing is installed. Without -SdkSource and -SdkReference this makes EvidencePlugin.dll, which
knows nothing of FAS. With them, the files that you wrote after the sample of the FAS Assertion SDK are compiled in, so
that one assembly holds everything: the guide is at the head of EvidencePlugin\EvidencePlugin.cs.

.PARAMETER Output
The directory that EvidencePlugin.dll and TestHost.exe are written to: one that only Administrators can change. Windows
lets every user change what lies in a new directory of C:\.

.PARAMETER SdkSource
Your own *.cs files that use the SDK.

.PARAMETER SdkReference
The assemblies of the SDK that those files need.

.EXAMPLE
.\Build-EvidencePlugin.ps1 -Output 'C:\Program Files\LogonEvidence' -WhatIf
#>
[CmdletBinding(SupportsShouldProcess = $true)]
param(
    [Parameter(Mandatory = $true)] [string] $Output,
    [string[]] $SdkSource = @(),
    [string[]] $SdkReference = @()
)

Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

$compiler = Join-Path $env:windir 'Microsoft.NET\Framework64\v4.0.30319\csc.exe'
if (-not (Test-Path -LiteralPath $compiler)) {
    throw "There is no compiler at $compiler. Install .NET Framework 4.5 or newer."
}
foreach ($file in @($SdkSource) + @($SdkReference)) {
    if (-not (Test-Path -LiteralPath $file -PathType Leaf)) { throw "There is no file $file." }
}

$bridge = Split-Path -Parent $PSScriptRoot
$library = Join-Path $Output 'EvidencePlugin.dll'
$testHost = Join-Path $Output 'TestHost.exe'
$sources = @(Get-ChildItem -LiteralPath (Join-Path $bridge 'EvidencePlugin') -Filter '*.cs' | ForEach-Object { $_.FullName })
$hostSources = @(Get-ChildItem -LiteralPath (Join-Path $bridge 'TestHost') -Filter '*.cs' | ForEach-Object { $_.FullName })
$common = @('/nologo', '/optimize+', '/reference:System.Runtime.Serialization.dll', '/reference:System.Xml.dll')

if (-not $PSCmdlet.ShouldProcess($library, "compile $($sources.Count + $SdkSource.Count) files")) { return }

New-Item -ItemType Directory -Path $Output -Force | Out-Null
$references = @($SdkReference | ForEach-Object { "/reference:$_" })
& $compiler @common '/target:library' "/out:$library" @references @sources @SdkSource
if ($LASTEXITCODE -ne 0) { throw "The library was not compiled; see the messages above." }
& $compiler @common '/target:exe' "/out:$testHost" "/reference:$library" @hostSources
if ($LASTEXITCODE -ne 0) { throw "The test host was not compiled; see the messages above." }
Write-Output "Compiled $library and $testHost."
