<?php
$metadata['https://idp.example/simplesamlphp'] = [
    'host' => '__DEFAULT__',
    'privatekey' => 'signing.key',
    'certificate' => 'signing.crt',
    'auth' => 'users',
    'signature.algorithm' => 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256',
    'attributes.NameFormat' => 'urn:oasis:names:tc:SAML:2.0:attrname-format:uri',
];
