<?php
// SimpleSAMLphp as an identity provider for tests. IDP_URL is its own address; IDP_DIR holds keys and all it writes.

$dir = getenv('IDP_DIR');

$config = [
    'baseurlpath' => getenv('IDP_URL') . '/',
    'certdir' => "$dir/cert/",
    'loggingdir' => "$dir/log/",
    'datadir' => "$dir/data/",
    'tempdir' => "$dir/tmp",
    'metadata.sources' => [['type' => 'flatfile', 'directory' => __DIR__ . '/metadata/']],
    'attributenamemapdir' => '/usr/share/simplesamlphp/attributemap/',

    'secretsalt' => 'only-for-tests',
    'auth.adminpassword' => 'only-for-tests',
    'technicalcontact_name' => 'Tests',
    'technicalcontact_email' => 'tests@idp.example',
    'timezone' => 'UTC',
    'language.default' => 'en',
    'production' => true,
    'admin.checkforupdates' => false,

    'enable.saml20-idp' => true,
    'module.enable' => ['core' => true, 'saml' => true, 'exampleauth' => true],

    'store.type' => 'phpsession',
    'session.phpsession.savepath' => "$dir/sessions",
    'session.cookie.secure' => false,
    'session.cookie.samesite' => 'Lax',

    'logging.handler' => 'file',
    'logging.level' => SimpleSAML\Logger::INFO,
];
