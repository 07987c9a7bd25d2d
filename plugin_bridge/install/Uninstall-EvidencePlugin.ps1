<#
.SYNOPSIS
Removes what Install-EvidencePlugin.ps1 placed: the settings, the files beside them, and the event source.

.DESCRIPTION
First take the plug-in out of FAS, as the Readme of the FAS Assertion SDK says, and turn the collection of evidence off
at StoreFront: FAS without a plug-in refuses every launch that carries evidence. Then run this, elevated. Afterwards
revoke the plug-in at the service: fas-evidence plugin revoke NAME. A client certificate in a store stays there.

.EXAMPLE
.\Uninstall-EvidencePlugin.ps1 -WhatIf
#>
[CmdletBinding(SupportsShouldProcess = $true, ConfirmImpact = 'High')]
param()

Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

$source = 'Logon Evidence Plugin'
$directory = Join-Path ([Environment]::GetFolderPath('CommonApplicationData')) 'LogonEvidence'

if (Test-Path -LiteralPath $directory) {
    foreach ($file in @(Get-ChildItem -LiteralPath $directory -Force)) {
        if ($PSCmdlet.ShouldProcess($file.FullName, 'remove')) { Remove-Item -LiteralPath $file.FullName -Force }
    }
}
if ((Test-Path -LiteralPath $directory) -and @(Get-ChildItem -LiteralPath $directory -Force).Count -eq 0) {
    if ($PSCmdlet.ShouldProcess($directory, 'remove the empty directory')) { Remove-Item -LiteralPath $directory }
}
if ([Diagnostics.EventLog]::SourceExists($source)) {
    if ($PSCmdlet.ShouldProcess('Application log', "remove the event source $source")) { Remove-EventLog -Source $source }
}
