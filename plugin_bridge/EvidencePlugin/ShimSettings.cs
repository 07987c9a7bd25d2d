using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Xml;

namespace LogonEvidence
{
    /// <summary>Settings that cannot be used. The message is one line that names the member.</summary>
    [Serializable]
    public sealed class SettingsException : Exception
    {
        public readonly string Member;

        public SettingsException(string member, string problem)
            : base(member + ": " + problem)
        {
            Member = member;
        }
    }

    /// <summary>The settings file, read once and never changed. A member that is not known is refused, so that a
    /// typing error cannot leave a setting at its default.</summary>
    public sealed class ShimSettings
    {
        public const string Root = "EvidencePlugin";
        public const string Path = "/v1/decisions";
        const int MaxFileBytes = 65536;

        /// <summary>In the order in which they are asked. At least one, https.</summary>
        public IList<Uri> Services { get; private set; }

        /// <summary>SHA-256 (lower-case hex) of each server certificate that is accepted; empty where ServerCa is set.</summary>
        public IList<string> ServerPins { get; private set; }

        /// <summary>The CA that the server certificate must come from, or null where ServerPins are set.</summary>
        public X509Certificate2 ServerCa { get; private set; }

        /// <summary>SHA-1 or SHA-256 (lower-case hex) of the client certificate in the store, or null.</summary>
        public string ClientCertificateThumbprint { get; private set; }

        /// <summary>Where the thumbprint is looked for.</summary>
        public StoreLocation ClientCertificateStore { get; private set; }

        /// <summary>A PFX file with certificate and key, or null.</summary>
        public string ClientCertificateFile { get; private set; }

        public string ClientCertificatePassword { get; private set; }

        /// <summary>The files that ServerCa and ClientCertificateFile name.</summary>
        public IList<string> Files { get; private set; }

        /// <summary>For one question, from its beginning to its answer, all addresses included.</summary>
        public int DeadlineMilliseconds { get; private set; }

        /// <summary>For one address. More than the deadline of the service (2 s), so that its own answer can arrive.</summary>
        public int AttemptMilliseconds { get; private set; }

        /// <summary>Questions at a time; one more is denied at once.</summary>
        public int MaxConcurrent { get; private set; }

        public int MaxQuestionBytes { get; private set; }

        /// <summary>Failures in a row after which an address is left alone for BreakerSeconds.</summary>
        public int BreakerFailures { get; private set; }

        public int BreakerSeconds { get; private set; }

        /// <summary>How this server calls itself in questions.</summary>
        public string FasServer { get; private set; }

        /// <summary>Whether every allow is written to the event log.</summary>
        public bool LogAllows { get; private set; }

        /// <summary>Events of one id that are written per minute; the rest is counted.</summary>
        public int EventsPerMinute { get; private set; }

        ShimSettings()
        {
        }

        /// <summary>Read a file. Throws SettingsException.</summary>
        public static ShimSettings Load(string path)
        {
            byte[] content;
            try
            {
                var file = new FileInfo(path);
                if (file.Length > MaxFileBytes) throw new SettingsException(Root, "the file is longer than 65536 bytes");
                content = File.ReadAllBytes(path);
            }
            catch (SettingsException)
            {
                throw;
            }
            catch (Exception error)
            {
                throw new SettingsException(Root, "the file " + path + " cannot be read: " + error.Message);
            }
            return Parse(content, System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path)));
        }

        /// <summary>Read the content of a file; relative paths inside are of this directory. Throws SettingsException.</summary>
        public static ShimSettings Parse(byte[] content, string directory)
        {
            Dictionary<string, List<string>> members = Members(content);
            var settings = new ShimSettings
            {
                Services = Addresses(Many(members, "Service")),
                ServerPins = Pins(Many(members, "ServerPin")),
                ServerCa = Certificate("ServerCa", One(members, "ServerCa"), directory),
                ClientCertificateThumbprint = Digest(
                    "ClientCertificateThumbprint", One(members, "ClientCertificateThumbprint"), 40, 64),
                ClientCertificateStore = Store(One(members, "ClientCertificateStore")),
                ClientCertificateFile = ExistingFile(
                    "ClientCertificateFile", One(members, "ClientCertificateFile"), directory),
                ClientCertificatePassword = One(members, "ClientCertificatePassword"),
                DeadlineMilliseconds = Number(members, "DeadlineMilliseconds", 5000, 100, 30000),
                AttemptMilliseconds = Number(members, "AttemptMilliseconds", 2500, 100, 30000),
                MaxConcurrent = Number(members, "MaxConcurrent", 128, 1, 1024),
                MaxQuestionBytes = Number(members, "MaxQuestionBytes", 1048576, 16384, 16777216),
                BreakerFailures = Number(members, "BreakerFailures", 5, 1, 1000),
                BreakerSeconds = Number(members, "BreakerSeconds", 5, 1, 300),
                FasServer = One(members, "FasServer") ?? Environment.MachineName,
                LogAllows = Flag(members, "LogAllows", true),
                EventsPerMinute = Number(members, "EventsPerMinute", 120, 1, 6000),
            };
            var files = new List<string>();
            foreach (string name in new[] { "ServerCa", "ClientCertificateFile" })
            {
                if (members.ContainsKey(name)) files.Add(ExistingFile(name, One(members, name), directory));
            }
            settings.Files = files.AsReadOnly();
            if (settings.FasServer.Length > 256) throw new SettingsException("FasServer", "is longer than 256 characters");
            if (settings.ServerPins.Count > 0 == (settings.ServerCa != null))
                throw new SettingsException("ServerPin", "give either ServerPin (once or more) or ServerCa");
            if ((settings.ClientCertificateThumbprint != null) == (settings.ClientCertificateFile != null))
                throw new SettingsException("ClientCertificateThumbprint",
                    "give either ClientCertificateThumbprint or ClientCertificateFile");
            if (settings.ClientCertificateFile == null && settings.ClientCertificatePassword != null)
                throw new SettingsException("ClientCertificatePassword", "belongs to ClientCertificateFile");
            if (settings.ClientCertificateFile != null && members.ContainsKey("ClientCertificateStore"))
                throw new SettingsException("ClientCertificateStore", "belongs to ClientCertificateThumbprint");
            if (settings.AttemptMilliseconds > settings.DeadlineMilliseconds)
                throw new SettingsException("AttemptMilliseconds", "is more than DeadlineMilliseconds");
            return settings;
        }

        static readonly string[] Known =
        {
            "Service", "ServerPin", "ServerCa", "ClientCertificateThumbprint", "ClientCertificateStore",
            "ClientCertificateFile", "ClientCertificatePassword", "DeadlineMilliseconds", "AttemptMilliseconds",
            "MaxConcurrent", "MaxQuestionBytes", "BreakerFailures", "BreakerSeconds", "FasServer", "LogAllows",
            "EventsPerMinute",
        };

        static readonly string[] Repeated = { "Service", "ServerPin" };

        static Dictionary<string, List<string>> Members(byte[] content)
        {
            var members = new Dictionary<string, List<string>>(StringComparer.Ordinal);
            var form = new XmlReaderSettings
            {
                DtdProcessing = DtdProcessing.Prohibit,
                XmlResolver = null,
                IgnoreComments = true,
                IgnoreWhitespace = true,
                IgnoreProcessingInstructions = true,
            };
            try
            {
                using (var stream = new MemoryStream(content, false))
                using (XmlReader xml = XmlReader.Create(stream, form))
                {
                    xml.MoveToContent();
                    if (xml.Name != Root) throw new SettingsException(Root, "the outermost element is not <" + Root + ">");
                    if (xml.HasAttributes) throw new SettingsException(Root, "attributes are not known here");
                    bool empty = xml.IsEmptyElement;
                    xml.Read();
                    while (!empty && xml.NodeType != XmlNodeType.EndElement) Member(xml, members);
                    while (!xml.EOF) xml.Read();
                }
            }
            catch (XmlException error)
            {
                throw new SettingsException(Root, "is not XML: " + error.Message);
            }
            return members;
        }

        static void Member(XmlReader xml, Dictionary<string, List<string>> members)
        {
            if (xml.NodeType != XmlNodeType.Element) throw new SettingsException(Root, "holds text outside its members");
            string name = xml.Name;
            if (Array.IndexOf(Known, name) < 0) throw new SettingsException(name, "there is no such setting");
            if (xml.HasAttributes) throw new SettingsException(name, "attributes are not known here");
            bool empty = xml.IsEmptyElement;
            var value = new StringBuilder();
            xml.Read();
            while (!empty && xml.NodeType != XmlNodeType.EndElement)
            {
                if (xml.NodeType != XmlNodeType.Text && xml.NodeType != XmlNodeType.CDATA
                    && xml.NodeType != XmlNodeType.SignificantWhitespace)
                    throw new SettingsException(name, "must hold text only");
                value.Append(xml.Value);
                xml.Read();
            }
            if (!empty) xml.Read();
            string text = value.ToString().Trim();
            if (text.Length == 0) throw new SettingsException(name, "is empty; leave it out for its default");
            List<string> values;
            if (!members.TryGetValue(name, out values)) members.Add(name, values = new List<string>());
            values.Add(text);
            if (values.Count > 1 && Array.IndexOf(Repeated, name) < 0)
                throw new SettingsException(name, "stands there more than once");
        }

        static IList<string> Many(Dictionary<string, List<string>> members, string name)
        {
            List<string> values;
            return members.TryGetValue(name, out values) ? values : new List<string>();
        }

        static string One(Dictionary<string, List<string>> members, string name)
        {
            List<string> values;
            return members.TryGetValue(name, out values) ? values[0] : null;
        }

        static IList<Uri> Addresses(IList<string> values)
        {
            if (values.Count == 0)
                throw new SettingsException("Service", "give at least one address, as in https://evidence1.corp.example:8443");
            var addresses = new List<Uri>();
            foreach (string value in values)
            {
                Uri address;
                if (!Uri.TryCreate(value, UriKind.Absolute, out address) || address.Scheme != Uri.UriSchemeHttps
                    || address.Host.Length == 0)
                    throw new SettingsException("Service", value + " is not an https address with a host");
                if (address.UserInfo.Length > 0 || address.Query.Length > 0 || address.Fragment.Length > 0
                    || (address.AbsolutePath != "/" && address.AbsolutePath != Path))
                    throw new SettingsException("Service", "give host and port only, as in https://evidence1.corp.example:8443");
                var asked = new Uri(address, Path);
                if (addresses.Contains(asked)) throw new SettingsException("Service", value + " stands there twice");
                addresses.Add(asked);
            }
            return addresses.AsReadOnly();
        }

        static IList<string> Pins(IList<string> values)
        {
            var pins = new List<string>();
            foreach (string value in values) pins.Add(Digest("ServerPin", value, 64, 64));
            return pins.AsReadOnly();
        }

        /// <remarks>The certificate dialog of Windows shows digests with blanks, and copies an invisible U+200E along.</remarks>
        static string Digest(string member, string value, int one, int other)
        {
            if (value == null) return null;
            string digits = value.Replace(" ", "").Replace(":", "").Replace("\u200e", "").ToLowerInvariant();
            bool hex = digits.Length == one || digits.Length == other;
            foreach (char digit in digits) hex = hex && "0123456789abcdef".IndexOf(digit) >= 0;
            if (!hex)
                throw new SettingsException(member,
                    one == other ? "is not a SHA-256 of 64 hexadecimal digits" : "is not a SHA-1 (40) or SHA-256 (64 hexadecimal digits)");
            return digits;
        }

        static string ExistingFile(string member, string value, string directory)
        {
            if (value == null) return null;
            string path;
            try
            {
                path = System.IO.Path.Combine(directory, value);
            }
            catch (ArgumentException)
            {
                throw new SettingsException(member, "is not a path");
            }
            if (!File.Exists(path)) throw new SettingsException(member, "there is no file " + path);
            return path;
        }

        static X509Certificate2 Certificate(string member, string value, string directory)
        {
            string path = ExistingFile(member, value, directory);
            if (path == null) return null;
            try
            {
                return new X509Certificate2(path);
            }
            catch (Exception error)
            {
                throw new SettingsException(member, "no certificate can be read from " + path + ": " + error.Message);
            }
        }

        static StoreLocation Store(string value)
        {
            if (value == null || value == "LocalMachine") return StoreLocation.LocalMachine;
            if (value == "CurrentUser") return StoreLocation.CurrentUser;
            throw new SettingsException("ClientCertificateStore", "is neither LocalMachine nor CurrentUser");
        }

        static int Number(Dictionary<string, List<string>> members, string name, int standard, int least, int most)
        {
            string value = One(members, name);
            if (value == null) return standard;
            int number;
            if (!int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out number)
                || number < least || number > most)
                throw new SettingsException(name, "is not a whole number from " + least + " to " + most);
            return number;
        }

        static bool Flag(Dictionary<string, List<string>> members, string name, bool standard)
        {
            string value = One(members, name);
            if (value == null) return standard;
            if (value == "true") return true;
            if (value == "false") return false;
            throw new SettingsException(name, "is neither true nor false");
        }
    }
}
