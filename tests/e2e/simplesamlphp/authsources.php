<?php
$user = fn (string $upn): array => [
    'http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn' => [$upn],
    'http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress' => [$upn],
    'http://schemas.xmlsoap.org/claims/Group' => ['staff', 'citrix-users'],
];

$config = [
    'admin' => ['core:AdminPassword'],
    'users' => [
        'exampleauth:UserPass',
        'alice:wonder' => $user('alice@corp.example'),
        'bob:builder' => $user('bob@corp.example'),
        'carol:singer' => $user('carol@corp.example'),
        'dave:diver' => $user('dave@corp.example'),
    ],
];
