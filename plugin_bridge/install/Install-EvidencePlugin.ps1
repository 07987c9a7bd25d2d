<#
.SYNOPSIS
Prepares this FAS server for the evidence plug-in: event source, settings, rights.

.DESCRIPTION
Checks the settings before anything is changed, then registers the event source, places the settings, with the files
beside them that they name (a PFX, a CA), where only SYSTEM and Administrators may change them and besides them only the
account of FAS may read them, and says what is left to do for the private key of the client certificate. It does not
register the plug-in with FAS: do that as the Readme of the FAS Assertion SDK says.

Run it elevated. Run it again to place changed settings: the plug-in follows the file by itself.

.PARAMETER Library
EvidencePlugin.dll, as Build-EvidencePlugin.ps1 made it.

.PARAMETER Settings
The settings file to place, as "fas-evidence plugin enroll --service" writes it.

.PARAMETER Account
The account that FAS runs under.

.EXAMPLE
.\Install-EvidencePlugin.ps1 -Library 'C:\Program Files\LogonEvidence\EvidencePlugin.dll' -Settings .\EvidencePlugin.xml -WhatIf
#>
[CmdletBinding(SupportsShouldProcess = $true)]
param(
    [Parameter(Mandatory = $true)] [string] $Library,
    [Parameter(Mandatory = $true)] [string] $Settings,
    [string] $Account = 'NT AUTHORITY\NETWORK SERVICE'
)

Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

$identity = [Security.Principal.WindowsIdentity]::GetCurrent()
$principal = New-Object Security.Principal.WindowsPrincipal -ArgumentList $identity
if (-not $principal.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) {
    throw 'Run this in a PowerShell that was started with "Run as administrator".'
}
foreach ($file in $Library, $Settings) {
    if (-not (Test-Path -LiteralPath $file -PathType Leaf)) { throw "There is no file $file." }
}

# A copy in memory, so that the file stays free to be replaced.
[void] [Reflection.Assembly]::Load([IO.File]::ReadAllBytes((Resolve-Path -LiteralPath $Library).ProviderPath))
$Settings = (Resolve-Path -LiteralPath $Settings).ProviderPath
$loaded = [LogonEvidence.ShimSettings]::Load($Settings)
$source = [LogonEvidence.DecisionLog]::Source
$target = [LogonEvidence.EvidencePlugin]::StandardSettings()
$directory = Split-Path -Parent $target
$administrators = New-Object Security.Principal.SecurityIdentifier -ArgumentList 'S-1-5-32-544'
$system = New-Object Security.Principal.SecurityIdentifier -ArgumentList 'S-1-5-18'

# Every user may make this directory first, and would keep the rights that he gave himself on what lies in it.
function Assert-OwnedByAdministrators {
    if (-not (Test-Path -LiteralPath $directory)) { return }
    foreach ($item in @(Get-Item -LiteralPath $directory -Force) + @(Get-ChildItem -LiteralPath $directory -Force)) {
        $owner = (Get-Acl -LiteralPath $item.FullName).GetOwner([Security.Principal.SecurityIdentifier])
        if ($owner -ne $administrators -and $owner -ne $system) {
            throw "$($item.FullName) belongs to $owner, not to Administrators: find out why, remove it, and run this again."
        }
    }
}

Assert-OwnedByAdministrators

if (-not [Diagnostics.EventLog]::SourceExists($source)) {
    if ($PSCmdlet.ShouldProcess("Application log", "register the event source $source")) {
        New-EventLog -LogName Application -Source $source
    }
}

if ($PSCmdlet.ShouldProcess($directory, "create, with rights for SYSTEM, Administrators and (reading) $Account")) {
    $acl = New-Object Security.AccessControl.DirectorySecurity
    $acl.SetAccessRuleProtection($true, $false)
    $reader = (New-Object Security.Principal.NTAccount -ArgumentList $Account).Translate([Security.Principal.SecurityIdentifier])
    $acl.SetOwner($administrators)
    foreach ($entry in @($system, 'FullControl'), @($administrators, 'FullControl'), @($reader, 'ReadAndExecute')) {
        $rule = New-Object Security.AccessControl.FileSystemAccessRule -ArgumentList `
            $entry[0], $entry[1], 'ContainerInherit, ObjectInherit', 'None', 'Allow'
        $acl.AddAccessRule($rule)
    }
    # Made with its rights, so that there is no moment without them; then for a directory that was there already.
    [void] [IO.Directory]::CreateDirectory($directory, $acl)
    Assert-OwnedByAdministrators
    Set-Acl -LiteralPath $directory -AclObject $acl
}

if ($PSCmdlet.ShouldProcess($target, "place the settings of $Settings")) {
    # Written beside and renamed, so that the plug-in never reads half a file; the settings last.
    $places = @()
    foreach ($file in $loaded.Files) {
        if ((Split-Path -Parent $file) -eq (Split-Path -Parent $Settings)) {
            $places += , @($file, (Join-Path $directory (Split-Path -Leaf $file)))
        }
    }
    $places += , @($Settings, $target)
    foreach ($place in $places) {
        $half = "$($place[1]).new"
        if (Test-Path -LiteralPath $half) { Remove-Item -LiteralPath $half -Force }
        Copy-Item -LiteralPath $place[0] -Destination $half
        if ($place[1] -eq $target) { [void] [LogonEvidence.ShimSettings]::Load($half) }
        if (Test-Path -LiteralPath $place[1]) {
            [IO.File]::Replace($half, $place[1], "$($place[1]).before")
        } else {
            [IO.File]::Move($half, $place[1])
        }
    }
}

if ($null -eq $loaded.ClientCertificateThumbprint) {
    Write-Warning "The settings hold the password of the PFX file $($loaded.ClientCertificateFile): delete both where they were copied from."
} else {
    $certificate = $null
    $sha256 = New-Object Security.Cryptography.SHA256CryptoServiceProvider
    foreach ($each in Get-ChildItem -Path "Cert:\$($loaded.ClientCertificateStore)\My") {
        $digest = ([BitConverter]::ToString($sha256.ComputeHash($each.RawData)) -replace '-', '').ToLowerInvariant()
        if ($each.Thumbprint -eq $loaded.ClientCertificateThumbprint -or $digest -eq $loaded.ClientCertificateThumbprint) {
            $certificate = $each
        }
    }
    if ($null -eq $certificate) {
        Write-Warning "No certificate in $($loaded.ClientCertificateStore)\My has the thumbprint of the settings: import it, with its key."
    } elseif (-not $certificate.HasPrivateKey) {
        Write-Warning "The client certificate has no private key here: import it again, with its key."
    } else {
        Write-Output "Client certificate: $($certificate.Subject), valid until $($certificate.NotAfter.ToUniversalTime().ToString('u'))."
        Write-Output "Let $Account read its private key: certlm.msc, Personal, Certificates, All Tasks, Manage Private Keys."
    }
}
Write-Output 'Next: Test-EvidencePlugin.ps1, then register the plug-in as the Readme of the FAS Assertion SDK says.'
