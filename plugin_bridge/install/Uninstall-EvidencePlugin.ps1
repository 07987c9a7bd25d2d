<#
.SYNOPSIS
Removes what Install-EvidencePlugin.ps1 placed: the settings and the event source.

.DESCRIPTION
First take the plug-in out of FAS, as the Readme of the FAS Assertion SDK says, and turn the collection of evidence off
at StoreFront: FAS without a plug-in refuses every launch that carries evidence. Then run this, elevated. Afterwards
revoke the plug-in at the service: fas-evidence plugin revoke NAME. The client certificate stays in its store.

.EXAMPLE
.\Uninstall-EvidencePlugin.ps1 -WhatIf
#>
[CmdletBinding(SupportsShouldProcess = $true, ConfirmImpact = 'High')]
param()

Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

$source = 'Logon Evidence Plugin'
$directory = Join-Path ([Environment]::GetFolderPath('CommonApplicationData')) 'LogonEvidence'

foreach ($name in 'EvidencePlugin.xml', 'EvidencePlugin.xml.before', 'EvidencePlugin.xml.new') {
    $file = Join-Path $directory $name
    if ((Test-Path -LiteralPath $file) -and $PSCmdlet.ShouldProcess($file, 'remove')) {
        Remove-Item -LiteralPath $file -Force
    }
}
if ((Test-Path -LiteralPath $directory) -and @(Get-ChildItem -LiteralPath $directory -Force).Count -eq 0) {
    if ($PSCmdlet.ShouldProcess($directory, 'remove the empty directory')) { Remove-Item -LiteralPath $directory }
}
if ([Diagnostics.EventLog]::SourceExists($source)) {
    if ($PSCmdlet.ShouldProcess('Application log', "remove the event source $source")) { Remove-EventLog -Source $source }
}
