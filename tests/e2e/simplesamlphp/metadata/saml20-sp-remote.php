<?php
// SimpleSAMLphp keeps one form of response per service provider. Here the form asked for is a parameter of the
// sign-on address, so that every form has the same audience. It is read when the AuthnRequest comes in; the sign-in
// that follows carries on with the settings of that moment.

$upn = 'http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn';
$email = 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress';

$service = [
    'AssertionConsumerService' => 'https://gw.example/cgi/samlauth',
    'NameIDFormat' => $email,
    'authproc' => [50 => ['class' => 'saml:AttributeNameID', 'attribute' => $upn, 'Format' => $email]],
];

$signed = fn (bool $assertion, bool $response): array => [
    'saml20.sign.assertion' => $assertion,
    'saml20.sign.response' => $response,
];
$algorithm = fn (string $uri): array => ['signature.algorithm' => $uri] + $signed(true, true);

// Its own choice of algorithms, which cannot be set: AES-128-CBC under RSA-OAEP.
$encrypted = [
    'assertion.encryption' => true,
    'keys' => [[
        'encryption' => true,
        'signing' => false,
        'type' => 'X509Certificate',
        'X509Certificate' => preg_replace('/-----[^-]+-----|\s/', '', file_get_contents(getenv('IDP_DIR') . '/cert/service.crt')),
    ]],
];

$forms = [
    'assertion-signed' => $signed(true, false),
    'response-signed' => $signed(false, true),
    'both-signed' => $signed(true, true),
    'encrypted-cbc' => $signed(true, false) + $encrypted,
    'encrypted-response-signed' => $signed(false, true) + $encrypted,
    'sha512' => $algorithm('http://www.w3.org/2001/04/xmldsig-more#rsa-sha512'),
    'sha1' => $algorithm('http://www.w3.org/2000/09/xmldsig#rsa-sha1'),
];

$settings = $service + ($forms[$_GET['form'] ?? 'both-signed'] ?? throw new Exception('no such form of response'));
$metadata['https://gw.example'] = $settings;
$metadata['https://other.example'] = $settings;
