<#
.SYNOPSIS
Asks the service a question whose answer is known, through the library, with the settings in place.

.DESCRIPTION
The evidence is not a SAML response, so a service that works denies it. That it is this service, that it knows this
plug-in, and that its answer is understood, is what the test shows. Ends with 0 if so, with 1 if not.

It runs under your account. FAS runs under another, which needs the private key too: look for events of the plug-in
after the first launch.

.PARAMETER Library
EvidencePlugin.dll, as Build-EvidencePlugin.ps1 made it.

.PARAMETER Settings
Another settings file than the one in place.

.EXAMPLE
.\Test-EvidencePlugin.ps1 -Library 'C:\Program Files\LogonEvidence\EvidencePlugin.dll'
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory = $true)] [string] $Library,
    [string] $Settings
)

Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

if (-not (Test-Path -LiteralPath $Library -PathType Leaf)) { throw "There is no file $Library." }
[void] [Reflection.Assembly]::Load([IO.File]::ReadAllBytes((Resolve-Path -LiteralPath $Library).ProviderPath))
if (-not $Settings) { $Settings = [LogonEvidence.EvidencePlugin]::StandardSettings() }
$Settings = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($Settings)

$log = New-Object LogonEvidence.DecisionLog
$decider = New-Object LogonEvidence.EvidenceDecider -ArgumentList $Settings, $log
$bytes = [Text.Encoding]::UTF8.GetBytes('<not-a-saml-response/>')
$item = New-Object 'System.Collections.Generic.KeyValuePair[string,byte[]]' -ArgumentList @('SAMLResponse', $bytes)
$evidence = New-Object 'System.Collections.Generic.List[System.Collections.Generic.KeyValuePair[string,byte[]]]'
$evidence.Add($item)
$question = New-Object LogonEvidence.EvidenceQuestion
$question.Upn = 'self-test@evidence-plugin.invalid'
$question.Evidence = $evidence
$question.CorrelationId = 'Test-EvidencePlugin.ps1'

$answer = $decider.Decide($question)
[void] $log.Flush([TimeSpan]::FromSeconds(5))

if ($answer.Allowed -and $answer.Observed) {
    Write-Output "The service answers, in observe mode: it would deny with $($answer.Reason). Decision $($answer.DecisionId)."
    exit 0
}
if ($answer.Allowed) {
    Write-Output 'WRONG: the service allowed what is no evidence. Do not go on.'
    exit 1
}
if ($answer.Failure -eq [LogonEvidence.Failure]::None) {
    Write-Output "The service answers and denies, as it must: $($answer.Reason). Decision $($answer.DecisionId)."
    exit 0
}
Write-Output "Failed: $($answer.Reason). $($answer.Detail)"
foreach ($row in [LogonEvidence.FailClosed]::Rows) {
    if ($row.Failure -eq $answer.Failure) { Write-Output "What to do: $($row.Remedy)" }
}
exit 1
