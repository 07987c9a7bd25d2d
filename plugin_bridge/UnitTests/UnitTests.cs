using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Threading;
using LogonEvidence;
using NUnit.Framework;

static class Given
{
    internal const string Id = "7c1e0f52-6f0b-4f0e-9a54-1d9a3f1f6a10";
    internal const string Pin = "AA aa:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    internal static EvidenceQuestion Question()
    {
        return new EvidenceQuestion
        {
            Upn = "alice@corp.example",
            Evidence = new List<KeyValuePair<string, byte[]>>
            {
                new KeyValuePair<string, byte[]>("Other", new byte[] { 1 }),
                new KeyValuePair<string, byte[]>(EvidenceQuestion.SamlResponse, new byte[] { 255, 254 }),
            },
        };
    }

    internal static string Body(string change, string to)
    {
        string body = "{\"request_id\":\"" + Id + "\",\"decision_id\":\"d-1\",\"decision\":\"allow\",\"reason\":\"ok\","
            + "\"rule\":null,\"security_context\":null,\"mode\":\"enforce\"}";
        Assert.That(body, Is.StringContaining(change));
        return body.Replace(change, to);
    }

    internal static WireAnswer Read(string body)
    {
        return Wire.Read(Encoding.UTF8.GetBytes(body), Id);
    }

    internal static string Fixture(string name)
    {
        return Path.Combine(Environment.GetEnvironmentVariable("BRIDGE_FIXTURES"), name);
    }

    internal static ShimSettings Settings(string members)
    {
        return ShimSettings.Parse(Encoding.UTF8.GetBytes("<EvidencePlugin>" + members + "</EvidencePlugin>"), Fixture("."));
    }

    internal const string Least = "<Service>https://127.0.0.1:1</Service><ServerPin>" + Pin + "</ServerPin>";
    internal const string Pfx = "<ClientCertificateFile>fas1.pfx</ClientCertificateFile>"
        + "<ClientCertificatePassword>correct horse</ClientCertificatePassword>";
}

[TestFixture]
public class WireTests
{
    [Test]
    public void WritesExactlyTheContract()
    {
        byte[] body = Wire.Write(Given.Question(), Given.Id, "fas1", 100000);
        Assert.AreEqual("{\"request_id\":\"" + Given.Id + "\",\"upn\":\"alice@corp.example\","
            + "\"evidence\":[{\"type\":\"SAMLResponse\",\"value\":\"\\/\\/4=\"}],\"fas_server\":\"fas1\"}",
            Encoding.UTF8.GetString(body));
    }

    [Test]
    public void ReadsAnAllowWithItsRule()
    {
        WireAnswer answer = Given.Read(Given.Body("\"rule\":null", "\"rule\":\"ext\\u0065rnal\""));
        Assert.AreEqual("allow", answer.Decision);
        Assert.AreEqual("external", answer.Rule);
        Assert.IsNull(answer.SecurityContext);
    }

    [TestCase("\"ok\"", "\"ok\",\"reason\":\"ok\"", Failure.AnswerUnreadable)]
    [TestCase("\"ok\"", "\"ok\",\"more\":\"x\"", Failure.AnswerUnreadable)]
    [TestCase("\"enforce\"}", "\"enforce\"} {}", Failure.AnswerUnreadable)]
    [TestCase("\"enforce\"}", "\"enforce\"", Failure.AnswerUnreadable)]
    [TestCase("\"allow\"", "true", Failure.AnswerUnreadable)]
    [TestCase("\"allow\"", "nul", Failure.AnswerUnreadable)]
    [TestCase("\"allow\"", "\"\\ud83d\"", Failure.AnswerUnreadable)]
    [TestCase("\"allow\"", "\"Allow\"", Failure.UnknownDecision)]
    [TestCase("\"allow\"", "\"deny\"", Failure.AnswerContradictory)]
    [TestCase("\"d-1\"", "\"\"", Failure.AnswerContradictory)]
    [TestCase("7c1e", "7C1E", Failure.OtherRequestId)]
    public void RefusesWhatIsNotTheContract(string change, string to, Failure expected)
    {
        var failed = Assert.Throws<FailedException>(delegate { Given.Read(Given.Body(change, to)); });
        Assert.AreEqual(expected, failed.Failure);
    }

    [Test]
    public void EveryPrefixOfAnAllowIsRefused()
    {
        string whole = Given.Body("ok", "ok");
        for (int length = 0; length < whole.Length; length++)
        {
            var failed = Assert.Throws<FailedException>(delegate { Given.Read(whole.Substring(0, length)); });
            Assert.AreEqual(Failure.AnswerUnreadable, failed.Failure);
        }
    }

    [Test]
    public void EverySpoiltByteOfTheDecisionIsRefused()
    {
        byte[] whole = Encoding.UTF8.GetBytes(Given.Body("ok", "ok"));
        int start = Encoding.UTF8.GetString(whole).IndexOf("\"allow\"", StringComparison.Ordinal);
        for (int at = start; at < start + 7; at++)
        {
            for (int value = 0; value < 256; value++)
            {
                var spoilt = (byte[])whole.Clone();
                if (spoilt[at] == value) continue;
                spoilt[at] = (byte)value;
                Assert.Throws<FailedException>(delegate { Wire.Read(spoilt, Given.Id); });
            }
        }
    }
}

[TestFixture]
public class ShimSettingsTests
{
    [Test]
    public void ReadsTheLeast()
    {
        ShimSettings settings = Given.Settings("<!-- a remark -->" + Given.Least + Given.Pfx);
        Assert.AreEqual("https://127.0.0.1:1/v1/decisions", settings.Services[0].ToString());
        Assert.AreEqual(new string('a', 64), settings.ServerPins[0]);
        Assert.AreEqual(5000, settings.DeadlineMilliseconds);
        Assert.AreEqual(2500, settings.AttemptMilliseconds);
        Assert.AreEqual(StoreLocation.LocalMachine, settings.ClientCertificateStore);
        Assert.IsTrue(settings.LogAllows);
    }

    [TestCase("", "Service")]
    [TestCase("<Service>http://a</Service>", "Service")]
    [TestCase("<Service>https://a/other</Service>", "Service")]
    [TestCase("<Service>https://u@a</Service>", "Service")]
    [TestCase("<Service>https://a</Service><Service>https://A:443/</Service>", "Service")]
    [TestCase("<Service>https://a</Service>" + Given.Pfx, "ServerPin")]
    [TestCase("<Service>https://a</Service><ServerPin>aa</ServerPin>", "ServerPin")]
    [TestCase(Given.Least, "ClientCertificateThumbprint")]
    [TestCase(Given.Least + Given.Pfx + "<ClientCertificateThumbprint>" + Given.Pin + "</ClientCertificateThumbprint>", "ClientCertificateThumbprint")]
    [TestCase(Given.Least + "<ClientCertificateThumbprint>xyz</ClientCertificateThumbprint>", "ClientCertificateThumbprint")]
    [TestCase(Given.Least + "<ClientCertificateFile>none.pfx</ClientCertificateFile>", "ClientCertificateFile")]
    [TestCase(Given.Least + Given.Pfx + "<ServerCa>none.pem</ServerCa>", "ServerCa")]
    [TestCase(Given.Least + Given.Pfx + "<ServerCa>fas1.pem</ServerCa>", "ServerPin")]
    [TestCase(Given.Least + Given.Pfx + "<ClientCertificateStore>LocalMachine</ClientCertificateStore>", "ClientCertificateStore")]
    [TestCase(Given.Least + Given.Pfx + "<DeadlineMilliseconds>+500</DeadlineMilliseconds>", "DeadlineMilliseconds")]
    [TestCase(Given.Least + Given.Pfx + "<DeadlineMilliseconds>0</DeadlineMilliseconds>", "DeadlineMilliseconds")]
    [TestCase(Given.Least + Given.Pfx + "<AttemptMilliseconds>6000</AttemptMilliseconds>", "AttemptMilliseconds")]
    [TestCase(Given.Least + Given.Pfx + "<LogAllows>yes</LogAllows>", "LogAllows")]
    [TestCase(Given.Least + Given.Pfx + "<LogAllows/>", "LogAllows")]
    [TestCase(Given.Least + Given.Pfx + "<LogAllows>true</LogAllows><LogAllows>true</LogAllows>", "LogAllows")]
    [TestCase(Given.Least + Given.Pfx + "<Deadline>1</Deadline>", "Deadline")]
    [TestCase(Given.Least + Given.Pfx + "<LogAllows a='1'>true</LogAllows>", "LogAllows")]
    [TestCase(Given.Least + Given.Pfx + "<LogAllows>true<b/></LogAllows>", "LogAllows")]
    [TestCase(Given.Least + Given.Pfx + "text", "EvidencePlugin")]
    [TestCase(Given.Least + Given.Pfx + "<", "EvidencePlugin")]
    public void NamesTheBadMember(string members, string member)
    {
        var error = Assert.Throws<SettingsException>(delegate { Given.Settings(members); });
        Assert.AreEqual(member, error.Member, error.Message);
        Assert.That(error.Message, Is.StringStarting(member + ": ").And.Not.StringContaining("\n"));
    }

    [TestCase("<!DOCTYPE a [<!ENTITY b 'c'>]><EvidencePlugin/>")]
    [TestCase("<Other/>")]
    [TestCase("")]
    [TestCase("<EvidencePlugin/><EvidencePlugin/>")]
    public void RefusesOtherDocuments(string document)
    {
        var error = Assert.Throws<SettingsException>(delegate { ShimSettings.Parse(Encoding.UTF8.GetBytes(document), "."); });
        Assert.That(error.Member, Is.EqualTo("EvidencePlugin").Or.EqualTo("Service"));
    }
}

[TestFixture]
public class DecisionClientTests
{
    /// <remarks>mono's store keeps no private keys, which shows what is said where the key is missing.</remarks>
    [Test]
    public void FindsItsCertificateInTheStoreByEitherThumbprint()
    {
        var certificate = new X509Certificate2(Given.Fixture("rsa.pfx"), "correct horse");
        var store = new X509Store(StoreName.My, StoreLocation.CurrentUser);
        store.Open(OpenFlags.ReadWrite);
        store.Add(certificate);
        store.Close();
        foreach (string thumbprint in new[] { certificate.Thumbprint, File.ReadAllText(Given.Fixture("rsa.sha256")) })
        {
            ShimSettings settings = Given.Settings(Given.Least + "<ClientCertificateThumbprint>" + thumbprint
                + "</ClientCertificateThumbprint><ClientCertificateStore>CurrentUser</ClientCertificateStore>");
            var failed = Assert.Throws<FailedException>(delegate { new DecisionClient(settings); });
            Assert.AreEqual(Failure.CertificateUnusable, failed.Failure);
            Assert.AreEqual("The client certificate has no private key here.", failed.Message);
        }
    }

    [Test]
    public void SaysThatItsCertificateIsNotInTheStore()
    {
        ShimSettings settings = Given.Settings(Given.Least + "<ClientCertificateThumbprint>" + new string('0', 40)
            + "</ClientCertificateThumbprint><ClientCertificateStore>CurrentUser</ClientCertificateStore>");
        var failed = Assert.Throws<FailedException>(delegate { new DecisionClient(settings); });
        Assert.AreEqual(Failure.CertificateUnusable, failed.Failure);
    }

    [Test]
    public void NoQuestionIsADeny()
    {
        EvidenceAnswer answer = new DecisionClient(Given.Settings(Given.Least + Given.Pfx)).Decide(null);
        Assert.IsFalse(answer.Allowed);
        Assert.AreEqual(Failure.QuestionInvalid, answer.Failure);
    }
}

[TestFixture]
public class EvidencePluginTests
{
    sealed class Answering : IEvidenceDecider
    {
        internal EvidenceQuestion Asked;
        internal Exception Error;

        public EvidenceAnswer Decide(EvidenceQuestion question)
        {
            Asked = question;
            if (Error != null) throw Error;
            return null;
        }
    }

    static IEnumerable<KeyValuePair<string, byte[]>> Broken()
    {
        yield return new KeyValuePair<string, byte[]>("SAMLResponse", null);
        throw new InvalidOperationException();
    }

    [Test]
    public void PassesEverythingOn()
    {
        var decider = new Answering();
        new EvidencePlugin(decider).Decide("u", "s", "r", "c", "d", "assert", Given.Question().Evidence);
        EvidenceQuestion asked = decider.Asked;
        Assert.AreEqual("u s r c d assert 2", string.Join(" ", asked.Upn, asked.Sid, asked.Rule, asked.SecurityContext,
            asked.Disposition, asked.Phase, asked.Evidence.Count));
    }

    [Test]
    public void AnyExceptionIsADeny()
    {
        foreach (Exception error in new Exception[] { null, new Exception(), new OutOfMemoryException(), new ThreadInterruptedException() })
        {
            EvidenceAnswer answer = new EvidencePlugin(new Answering { Error = error }).Decide("u", null, null, null, null, null, null);
            Assert.IsFalse(answer.Allowed);
            Assert.AreEqual(Failure.InternalError, answer.Failure);
            Assert.AreEqual("internal_error", answer.Reason);
        }
        EvidenceAnswer broken = new EvidencePlugin(new Answering()).Decide("u", null, null, null, null, null, Broken());
        Assert.AreEqual(Failure.InternalError, broken.Failure);
    }

    [Test]
    public void WithoutASettingsFileEverythingIsDenied()
    {
        EvidenceAnswer answer = new EvidencePlugin().Decide("u", null, null, null, null, null, Given.Question().Evidence);
        Assert.IsFalse(answer.Allowed);
        Assert.AreEqual(Failure.SettingsInvalid, answer.Failure);
    }
}

[TestFixture]
public class EvidenceDeciderTests
{
    [Test]
    public void FollowsItsFile()
    {
        string path = Given.Fixture("followed.xml");
        File.Delete(path);
        var decider = new EvidenceDecider(path, null);
        Assert.AreEqual(Failure.SettingsInvalid, decider.Decide(Given.Question()).Failure);
        File.WriteAllText(path, "<EvidencePlugin>" + Given.Least + Given.Pfx + "</EvidencePlugin>");
        Assert.AreEqual(Failure.NoService, Eventually(decider, Failure.NoService));
        File.WriteAllText(path, "<EvidencePlugin>");
        Assert.AreEqual(Failure.SettingsInvalid, Eventually(decider, Failure.SettingsInvalid));
    }

    [Test]
    public void FollowsTheFilesThatItsFileNames()
    {
        string path = Given.Fixture("names.xml"), pfx = Given.Fixture("named.pfx"), ca = Given.Fixture("named.pem");
        File.Copy(Given.Fixture("fas1.pfx"), pfx, true);
        File.Copy(Given.Fixture("rsa.pem"), ca, true);
        File.WriteAllText(path, "<EvidencePlugin><Service>https://127.0.0.1:1</Service><ServerCa>named.pem</ServerCa>"
            + "<ClientCertificateFile>named.pfx</ClientCertificateFile>"
            + "<ClientCertificatePassword>correct horse</ClientCertificatePassword></EvidencePlugin>");
        var decider = new EvidenceDecider(path, null);
        Assert.AreEqual(Failure.NoService, decider.Decide(Given.Question()).Failure);
        File.WriteAllText(pfx, "another");
        Assert.AreEqual(Failure.CertificateUnusable, Eventually(decider, Failure.CertificateUnusable));
        File.Copy(Given.Fixture("rsa.pfx"), pfx, true);
        Assert.AreEqual(Failure.NoService, Eventually(decider, Failure.NoService));
        File.WriteAllText(ca, "another");
        Assert.AreEqual(Failure.SettingsInvalid, Eventually(decider, Failure.SettingsInvalid));
    }

    static Failure Eventually(IEvidenceDecider decider, Failure expected)
    {
        Stopwatch watch = Stopwatch.StartNew();
        Failure found = Failure.None;
        while (found != expected && watch.Elapsed < TimeSpan.FromSeconds(20))
        {
            Thread.Sleep(50);
            found = decider.Decide(Given.Question()).Failure;
        }
        return found;
    }
}

[TestFixture]
public class DecisionLogTests
{
    [Test]
    public void WritesSoManyPerMinuteAndCountsTheRest()
    {
        string directory = Environment.GetEnvironmentVariable("MONO_EVENTLOG_TYPE").Substring("local:".Length);
        TimeSpan now = TimeSpan.Zero;
        var log = new DecisionLog(delegate { return now; });
        EvidenceAnswer denied = new DecisionClient(Given.Settings(Given.Least + Given.Pfx)).Decide(null);
        for (int i = 0; i < 10; i++) log.Write(denied, true, 3);
        now = TimeSpan.FromSeconds(61);
        log.Write(denied, true, 3);
        log.Note(EventLogEntryType.Error, 7, "a line\r\nInjected: \u202e");
        Assert.IsTrue(log.Flush(TimeSpan.FromSeconds(20)));
        string[] written = Directory.GetFiles(directory, "*.log", SearchOption.AllDirectories);
        string all = "";
        foreach (string file in written) all += File.ReadAllText(file);
        Assert.AreEqual(4, all.Split(new[] { "Denied: question_invalid" }, StringSplitOptions.None).Length - 1);
        Assert.That(all, Is.StringContaining("7 events of id 3003 were not written"));
        Assert.That(all, Is.StringContaining("a line??Injected: ?"));
    }

    [Test]
    public void NothingItIsGivenThrows()
    {
        var log = new DecisionLog();
        log.Write(null, true, 1);
        log.Note(EventLogEntryType.Error, 1, null);
    }
}
