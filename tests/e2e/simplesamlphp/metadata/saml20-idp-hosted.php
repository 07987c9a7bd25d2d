<?php
// cert/keys.json names what is signed with, which certificates the metadata lists (two at most, the signing one among
// them), and what signs the metadata, if anything does; it is read at every request.

$keys = json_decode(file_get_contents(getenv('IDP_DIR') . '/cert/keys.json'), true, 3, JSON_THROW_ON_ERROR);
$pair = fn (string $prefix, ?string $name): array =>
    $name === null ? [] : ["{$prefix}privatekey" => "$name.key", "{$prefix}certificate" => "$name.crt"];
$next = array_values(array_diff($keys['listed'], [$keys['signing']]))[0] ?? null;

$metadata['https://idp.example/simplesamlphp'] = [
    'host' => '__DEFAULT__',
    'auth' => 'users',
    'signature.algorithm' => 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256',
    'attributes.NameFormat' => 'urn:oasis:names:tc:SAML:2.0:attrname-format:uri',
    'metadata.sign.enable' => $keys['metadata'] !== null,
] + $pair('', $keys['signing']) + $pair('new_', $next) + $pair('metadata.sign.', $keys['metadata']);
