using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Net;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Threading;

namespace LogonEvidence
{
    /// <summary>Puts one question to the service and takes one answer, within one deadline. For many threads at a time.</summary>
    public sealed class DecisionClient : IEvidenceDecider
    {
        // An idle connection is left before the service closes it (120 s).
        const int IdleMilliseconds = 60000;
        const int LeaseMilliseconds = 300000;
        const int StackBytes = 256 * 1024;
        const string BrokenOff = "broken off";
        static int _instances;

        readonly ShimSettings _settings;
        readonly X509Certificate2 _certificate;
        readonly ServerIdentity _server;
        readonly Breaker[] _breakers;
        readonly string _group;
        int _open;

        /// <summary>Throws FailedException (CertificateUnusable).</summary>
        public DecisionClient(ShimSettings settings)
        {
            _settings = settings;
            _certificate = ClientCertificate.Find(settings);
            _server = new ServerIdentity(settings);
            _breakers = new Breaker[settings.Services.Count];
            for (int i = 0; i < _breakers.Length; i++)
                _breakers[i] = new Breaker(
                    settings.BreakerFailures, TimeSpan.FromSeconds(settings.BreakerSeconds), 2 * settings.MaxConcurrent);
            // Connections are shared only among questions with the same certificates on both sides.
            _group = "evidence" + Interlocked.Increment(ref _instances);
            AllowTls12();
        }

        /// <summary>Never throws.</summary>
        public EvidenceAnswer Decide(EvidenceQuestion question)
        {
            Stopwatch since = Stopwatch.StartNew();
            string requestId = Guid.NewGuid().ToString("D");
            try
            {
                byte[] body = Wire.Write(question, requestId, _settings.FasServer, _settings.MaxQuestionBytes);
                ClientCertificate.CheckValidity(_certificate);
                if (Interlocked.Increment(ref _open) > _settings.MaxConcurrent)
                {
                    Interlocked.Decrement(ref _open);
                    return EvidenceAnswer.Denied(Failure.Busy, requestId, null,
                        _settings.MaxConcurrent + " questions are open already.");
                }
                try
                {
                    return AskAll(requestId, body, since);
                }
                finally
                {
                    Interlocked.Decrement(ref _open);
                }
            }
            catch (FailedException failed)
            {
                return EvidenceAnswer.Denied(failed.Failure, requestId, null, failed.Message);
            }
            catch (Exception error)
            {
                return EvidenceAnswer.Denied(Failure.InternalError, requestId, null, error.GetType().Name);
            }
        }

        /// <summary>The protocol is a setting of the whole process. Where the process leaves it to Windows, so do we;
        /// where it lists versions, 1.2 is added. The service takes nothing older.</summary>
        static void AllowTls12()
        {
            bool listed = ServicePointManager.SecurityProtocol != 0;
            if (Type.GetType("Mono.Runtime") != null)
                ServicePointManager.SecurityProtocol = SecurityProtocolType.Tls12;
            else if (listed)
                ServicePointManager.SecurityProtocol |= SecurityProtocolType.Tls12;
        }

        EvidenceAnswer AskAll(string requestId, byte[] body, Stopwatch since)
        {
            EvidenceAnswer last = null;
            bool first = true;
            for (int i = 0; i < _breakers.Length; i++)
            {
                Uri service = _settings.Services[i];
                Breaker breaker = _breakers[i];
                if (!breaker.MayEnter())
                {
                    if (last == null)
                        last = EvidenceAnswer.Denied(Failure.CircuitOpen, requestId, service,
                            "The address failed lately and is left alone.");
                    continue;
                }
                int now = (int)since.ElapsedMilliseconds;
                int until = Math.Min(_settings.DeadlineMilliseconds, now + _settings.AttemptMilliseconds);
                // What the addresses before took must not be held against this one.
                bool cutShort = !first && until - now < _settings.AttemptMilliseconds;
                bool? reached = false;
                first = false;
                try
                {
                    EvidenceAnswer answer = new Attempt(this, service, breaker, requestId, body, since, until).Answer();
                    reached = true;
                    return answer;
                }
                catch (FailedException failed)
                {
                    reached = !FailClosed.MayAskNext(failed.Failure) || failed.Failure == Failure.Overloaded;
                    if (failed.Failure == Failure.Timeout && cutShort) reached = null;
                    last = EvidenceAnswer.Denied(failed.Failure, requestId, service, failed.Message);
                    if (!FailClosed.MayAskNext(failed.Failure)) return last;
                }
                finally
                {
                    breaker.Left(reached);
                }
                if (since.ElapsedMilliseconds >= _settings.DeadlineMilliseconds) break;
            }
            return last;
        }

        /// <summary>One question at one address, on a thread of its own: looking up a name cannot be cancelled, and the
        /// pool belongs to FAS. A thread that does not end is left behind.</summary>
        sealed class Attempt
        {
            readonly DecisionClient _client;
            readonly Uri _service;
            readonly Breaker _breaker;
            readonly string _requestId;
            readonly byte[] _body;
            readonly Stopwatch _since;
            readonly int _began;
            readonly int _until;
            readonly object _lock = new object();
            EvidenceAnswer _answer;
            FailedException _failed;
            HttpWebRequest _request;
            bool _over;

            /// <summary>Until so many milliseconds since the question was put. The breaker was entered.</summary>
            internal Attempt(
                DecisionClient client, Uri service, Breaker breaker, string requestId, byte[] body, Stopwatch since, int until)
            {
                _client = client;
                _service = service;
                _breaker = breaker;
                _requestId = requestId;
                _body = body;
                _since = since;
                _began = (int)since.ElapsedMilliseconds;
                _until = until;
            }

            /// <summary>The answer, in time. Throws FailedException.</summary>
            internal EvidenceAnswer Answer()
            {
                try
                {
                    new Thread(Run, StackBytes) { IsBackground = true, Name = "evidence question" }.Start();
                }
                catch (Exception)
                {
                    _breaker.Ended();
                    throw;
                }
                lock (_lock)
                {
                    try
                    {
                        while (_answer == null && _failed == null)
                        {
                            int left = _until - (int)_since.ElapsedMilliseconds;
                            if (left <= 0) throw TookTooLong();
                            Monitor.Wait(_lock, left);
                        }
                        if (_answer == null) throw _failed;
                        return _answer;
                    }
                    finally
                    {
                        _over = true;
                        HttpWebRequest request = _request;
                        // Aborting may wait for locks of the connection, which the caller must not.
                        if (request != null) ThreadPool.QueueUserWorkItem(delegate { Abort(request); });
                    }
                }
            }

            static void Abort(HttpWebRequest request)
            {
                try
                {
                    request.Abort();
                }
                catch (Exception)
                {
                    // It has ended by itself.
                }
            }

            void Run()
            {
                EvidenceAnswer answer = null;
                FailedException failed = null;
                try
                {
                    answer = AskTwice();
                }
                catch (FailedException error)
                {
                    failed = error;
                }
                catch (Exception error)
                {
                    failed = new FailedException(Failure.InternalError, error.GetType().Name);
                }
                finally
                {
                    _breaker.Ended();
                    lock (_lock)
                    {
                        _answer = answer;
                        _failed = failed ?? new FailedException(Failure.InternalError, "The attempt broke off.");
                        Monitor.PulseAll(_lock);
                    }
                }
            }

            bool IsOver()
            {
                lock (_lock) return _over || _since.ElapsedMilliseconds >= _until;
            }

            /// <summary>A connection that was kept may be closed by the service just when a question is put on it;
            /// the question is then put once more. It may be: deciding twice does no harm.</summary>
            EvidenceAnswer AskTwice()
            {
                try
                {
                    return Ask();
                }
                catch (FailedException failed)
                {
                    if (!failed.Data.Contains(BrokenOff) || IsOver()) throw;
                }
                return Ask();
            }

            EvidenceAnswer Ask()
            {
                string refused = null;
                int left;
                HttpWebRequest request;
                lock (_lock)
                {
                    left = _until - (int)_since.ElapsedMilliseconds;
                    if (_over || left <= 0) throw TookTooLong();
                    request = _client.Prepare(_service, left, _body.Length, delegate(string why) { refused = why; });
                    _request = request;
                }
                HttpWebResponse response = null;
                try
                {
                    try
                    {
                        using (Stream stream = request.GetRequestStream()) stream.Write(_body, 0, _body.Length);
                        response = (HttpWebResponse)request.GetResponse();
                    }
                    catch (WebException error)
                    {
                        response = error.Response as HttpWebResponse;
                        if (response == null) throw NoAnswer(error, refused);
                    }
                    catch (IOException error)
                    {
                        throw NoAnswer(error, refused);
                    }
                    return EvidenceAnswer.Of(Wire.Read(ReadBody(response), _requestId), _service);
                }
                finally
                {
                    lock (_lock) _request = null;
                    if (response != null) Close(response);
                }
            }

            static void Close(HttpWebResponse response)
            {
                try
                {
                    response.Close();
                }
                catch (Exception)
                {
                    // It is read already, or not wanted.
                }
            }

            byte[] ReadBody(HttpWebResponse response)
            {
                int status = (int)response.StatusCode;
                if (status == 401 || status == 403)
                    throw new FailedException(Failure.CallerRefused, "The service refused this plug-in with status " + status + ".");
                if (status == 429 || status == 503)
                    throw new FailedException(Failure.Overloaded, "The service turned the question away with status " + status + ".");
                if (status != 200)
                    throw new FailedException(Failure.WrongStatus, "The service answered with status " + status + ".");
                if (!IsJson(response.ContentType ?? ""))
                    throw new FailedException(Failure.WrongContentType, "The answer is not application/json.");
                if (!string.IsNullOrEmpty(response.Headers["Content-Encoding"]))
                    throw new FailedException(Failure.WrongContentType, "The answer is encoded.");
                if (response.ContentLength > Wire.MaxAnswerBytes)
                    throw new FailedException(Failure.AnswerTooLarge, "The answer is too long.");
                var body = new MemoryStream();
                try
                {
                    using (Stream stream = response.GetResponseStream())
                    {
                        var piece = new byte[4096];
                        int count;
                        while ((count = stream.Read(piece, 0, piece.Length)) > 0)
                        {
                            body.Write(piece, 0, count);
                            if (body.Length > Wire.MaxAnswerBytes)
                                throw new FailedException(Failure.AnswerTooLarge, "The answer is too long.");
                        }
                    }
                }
                catch (FailedException)
                {
                    throw;
                }
                catch (Exception error)
                {
                    if (IsOver()) throw TookTooLong();
                    throw new FailedException(Failure.AnswerTruncated,
                        "The connection ended within the answer (" + error.GetType().Name + ").");
                }
                if (response.ContentLength >= 0 && body.Length != response.ContentLength)
                    throw new FailedException(Failure.AnswerTruncated, "The connection ended within the answer.");
                return body.ToArray();
            }

            static bool IsJson(string type)
            {
                string[] parts = type.ToLowerInvariant().Split(';');
                return parts[0].Trim() == "application/json"
                    && (parts.Length == 1 || (parts.Length == 2 && parts[1].Trim() == "charset=utf-8"));
            }

            FailedException NoAnswer(Exception error, string refused)
            {
                var web = error as WebException;
                WebExceptionStatus status = web == null ? WebExceptionStatus.SendFailure : web.Status;
                if (refused != null) return new FailedException(Failure.WrongCertificate, refused);
                // A request is called off here only when its time is over; before that, RequestCanceled is how the runtime
                // tells of a kept connection that ended.
                if (IsOver() || status == WebExceptionStatus.Timeout) return TookTooLong();
                if (status == WebExceptionStatus.TrustFailure)
                    return new FailedException(Failure.WrongCertificate, "The service's certificate is not trusted.");
                if (status == WebExceptionStatus.SecureChannelFailure || IsTls(error))
                    return new FailedException(Failure.TlsRefused, "The TLS handshake failed.");
                if (status == WebExceptionStatus.ServerProtocolViolation || status == WebExceptionStatus.MessageLengthLimitExceeded)
                    return new FailedException(Failure.WrongStatus, "What the service answered is not HTTP.");
                var failed = new FailedException(Failure.NoService, "No connection to the service (" + status + ").");
                if (status != WebExceptionStatus.ConnectFailure && status != WebExceptionStatus.NameResolutionFailure)
                    failed.Data[BrokenOff] = true;
                return failed;
            }

            static bool IsTls(Exception error)
            {
                for (Exception inner = error; inner != null; inner = inner.InnerException)
                {
                    if (inner is System.Security.Authentication.AuthenticationException
                        || inner.GetType().FullName.StartsWith("Mono.Btls.", StringComparison.Ordinal)
                        || inner.GetType().FullName.StartsWith("Mono.Security.Interface.Tls", StringComparison.Ordinal))
                        return true;
                }
                return false;
            }

            FailedException TookTooLong()
            {
                return new FailedException(Failure.Timeout,
                    "No answer within " + (_until - _began) + " ms.");
            }
        }

        HttpWebRequest Prepare(Uri service, int milliseconds, int length, Action<string> refuse)
        {
            var request = (HttpWebRequest)WebRequest.Create(service);
            request.Method = "POST";
            request.ContentType = "application/json";
            request.Accept = "application/json";
            request.ContentLength = length;
            request.Timeout = milliseconds;
            request.ReadWriteTimeout = milliseconds;
            request.AllowAutoRedirect = false;
            request.AutomaticDecompression = DecompressionMethods.None;
            request.AllowWriteStreamBuffering = true;
            request.Proxy = null;
            request.KeepAlive = true;
            request.ConnectionGroupName = _group;
            request.MaximumResponseHeadersLength = 16;
            request.ClientCertificates.Add(_certificate);
            request.ServerCertificateValidationCallback = delegate(object sender, X509Certificate certificate, X509Chain chain, SslPolicyErrors errors)
            {
                string why = _server.Objection(service.DnsSafeHost, certificate, chain, errors);
                if (why != null) refuse(why);
                return why == null;
            };
            ServicePoint point = request.ServicePoint;
            point.ConnectionLimit = Math.Max(point.ConnectionLimit, _settings.MaxConcurrent);
            point.Expect100Continue = false;
            point.UseNagleAlgorithm = false;
            point.MaxIdleTime = IdleMilliseconds;
            point.ConnectionLeaseTimeout = LeaseMilliseconds;
            return request;
        }
    }

    /// <summary>Leaves an address alone that failed several times in a row, and then lets one question try it; and one
    /// where so many attempts hang that they would use up the memory of FAS.</summary>
    sealed class Breaker
    {
        readonly int _failures;
        readonly TimeSpan _pause;
        readonly int _room;
        readonly Stopwatch _clock = Stopwatch.StartNew();
        int _inRow;
        int _inside;
        TimeSpan _until = TimeSpan.Zero;
        bool _trying;

        internal Breaker(int failures, TimeSpan pause, int room)
        {
            _failures = failures;
            _pause = pause;
            _room = room;
        }

        /// <summary>Whether to ask. Where so, both Left and Ended follow.</summary>
        internal bool MayEnter()
        {
            lock (_clock)
            {
                if (_inside >= _room) return false;
                if (_inRow >= _failures)
                {
                    if (_trying || _clock.Elapsed < _until) return false;
                    _trying = true;
                }
                _inside++;
                return true;
            }
        }

        /// <summary>The thread that asked is gone.</summary>
        internal void Ended()
        {
            lock (_clock) _inside--;
        }

        /// <summary>The question has its answer; null: this tells nothing about the address.</summary>
        internal void Left(bool? reached)
        {
            lock (_clock)
            {
                _trying = false;
                if (reached == null) return;
                if (reached.Value)
                {
                    _inRow = 0;
                    return;
                }
                if (_inRow < _failures) _inRow++;
                if (_inRow >= _failures) _until = _clock.Elapsed + _pause;
            }
        }
    }

    /// <summary>Finds the certificate that this plug-in shows.</summary>
    static class ClientCertificate
    {
        internal static X509Certificate2 Find(ShimSettings settings)
        {
            X509Certificate2 found;
            try
            {
                found = settings.ClientCertificateFile == null
                    ? FromStore(settings.ClientCertificateThumbprint, settings.ClientCertificateStore)
                    : new X509Certificate2(settings.ClientCertificateFile, settings.ClientCertificatePassword ?? "",
                        X509KeyStorageFlags.MachineKeySet);
            }
            catch (FailedException)
            {
                throw;
            }
            catch (Exception error)
            {
                throw Unusable("The client certificate cannot be read (" + error.GetType().Name + ").");
            }
            if (!found.HasPrivateKey) throw Unusable("The client certificate has no private key here.");
            return found;
        }

        /// <summary>By this machine's clock, at every question: a process may outlive its certificate.</summary>
        internal static void CheckValidity(X509Certificate2 certificate)
        {
            DateTime now = DateTime.Now;
            if (now < certificate.NotBefore) throw Unusable("The client certificate is not valid yet, by this machine's clock.");
            if (now > certificate.NotAfter) throw Unusable("The client certificate has expired, by this machine's clock.");
        }

        static X509Certificate2 FromStore(string thumbprint, StoreLocation location)
        {
            var store = new X509Store(StoreName.My, location);
            store.Open(OpenFlags.ReadOnly | OpenFlags.OpenExistingOnly);
            try
            {
                foreach (X509Certificate2 certificate in store.Certificates)
                {
                    if (Digests.Sha1(certificate) == thumbprint || Digests.Sha256(certificate) == thumbprint) return certificate;
                }
            }
            finally
            {
                store.Close();
            }
            throw Unusable("No certificate in " + location + "\\My has the thumbprint of the settings.");
        }

        static FailedException Unusable(string why)
        {
            return new FailedException(Failure.CertificateUnusable, why);
        }
    }

    /// <summary>Knows the service by a pinned certificate or by its CA.</summary>
    sealed class ServerIdentity
    {
        const string ServerAuthentication = "1.3.6.1.5.5.7.3.1";
        readonly ShimSettings _settings;

        internal ServerIdentity(ShimSettings settings)
        {
            _settings = settings;
        }

        /// <summary>What speaks against a server's certificate, or null.</summary>
        internal string Objection(string host, X509Certificate certificate, X509Chain presented, SslPolicyErrors errors)
        {
            try
            {
                if (certificate == null) return "The service showed no certificate.";
                var shown = new X509Certificate2(certificate);
                DateTime now = DateTime.Now;
                if (now < shown.NotBefore || now > shown.NotAfter)
                    return "The service's certificate is not valid by this machine's clock.";
                if (_settings.ServerCa != null) return FromCa(host, shown, presented, errors);
                if (_settings.ServerPins.Contains(Digests.Sha256(shown))) return null;
                return "The service's certificate (SHA-256 " + Digests.Sha256(shown) + ") is not pinned.";
            }
            catch (Exception error)
            {
                return "The service's certificate cannot be judged (" + error.GetType().Name + ").";
            }
        }

        string FromCa(string host, X509Certificate2 shown, X509Chain presented, SslPolicyErrors errors)
        {
            // mono does not look at the name where a callback decides, so it is compared here too.
            if ((errors & SslPolicyErrors.RemoteCertificateNameMismatch) != 0 || !SubjectNames.Holds(shown, host))
                return "The service's certificate is for another name.";
            if (!IsForServers(shown)) return "The service's certificate is not for servers.";
            var chain = new X509Chain();
            chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
            chain.ChainPolicy.VerificationFlags = X509VerificationFlags.AllowUnknownCertificateAuthority;
            chain.ChainPolicy.ApplicationPolicy.Add(new Oid(ServerAuthentication));
            chain.ChainPolicy.ExtraStore.Add(_settings.ServerCa);
            if (presented != null)
            {
                foreach (X509ChainElement element in presented.ChainElements) chain.ChainPolicy.ExtraStore.Add(element.Certificate);
            }
            bool built = chain.Build(shown);
            foreach (X509ChainStatus status in chain.ChainStatus)
            {
                if (status.Status != X509ChainStatusFlags.UntrustedRoot && status.Status != X509ChainStatusFlags.NoError)
                    return "The service's certificate is not of the CA in the settings (" + status.Status + ").";
            }
            X509ChainElementCollection elements = chain.ChainElements;
            if (!built || elements.Count < 2
                || Digests.Sha256(elements[elements.Count - 1].Certificate) != Digests.Sha256(_settings.ServerCa))
                return "The service's certificate is not of the CA in the settings.";
            return null;
        }

        /// <summary>mono does not look at this when it builds a chain.</summary>
        static bool IsForServers(X509Certificate2 shown)
        {
            foreach (X509Extension extension in shown.Extensions)
            {
                var usages = extension as X509EnhancedKeyUsageExtension;
                if (usages == null) continue;
                bool found = false;
                foreach (Oid usage in usages.EnhancedKeyUsages) found = found || usage.Value == ServerAuthentication;
                if (!found) return false;
            }
            return true;
        }
    }

    /// <summary>The subject alternative names of a certificate (RFC 5280 section 4.2.1.6), compared as RFC 6125 asks.</summary>
    static class SubjectNames
    {
        const string Extension = "2.5.29.17";
        const int Sequence = 0x30, DnsName = 0x82, Address = 0x87;

        /// <summary>Throws where the extension cannot be read.</summary>
        internal static bool Holds(X509Certificate2 certificate, string host)
        {
            X509Extension names = certificate.Extensions[Extension];
            if (names == null) return false;
            IPAddress address;
            byte[] wanted = IPAddress.TryParse(host, out address) ? address.GetAddressBytes() : null;
            byte[] der = names.RawData;
            int at = 0, end;
            if (Enter(der, ref at, der.Length, out end) != Sequence || end != der.Length) throw new FormatException();
            while (at < end)
            {
                int until;
                int tag = Enter(der, ref at, end, out until);
                var value = new byte[until - at];
                Array.Copy(der, at, value, 0, value.Length);
                at = until;
                if (tag == Address && wanted != null && BitConverter.ToString(value) == BitConverter.ToString(wanted)) return true;
                if (tag == DnsName && wanted == null && Matches(System.Text.Encoding.ASCII.GetString(value), host)) return true;
            }
            return false;
        }

        static bool Matches(string name, string host)
        {
            if (!name.StartsWith("*.", StringComparison.Ordinal))
                return string.Equals(name, host, StringComparison.OrdinalIgnoreCase);
            int dot = host.IndexOf('.');
            return dot > 0 && name.IndexOf('.', 2) > 0
                && string.Equals(name.Substring(1), host.Substring(dot), StringComparison.OrdinalIgnoreCase);
        }

        /// <summary>Reads tag and length (DER, at most two bytes of it); the content is from at to until.</summary>
        static int Enter(byte[] der, ref int at, int end, out int until)
        {
            if (at + 2 > end) throw new FormatException();
            int tag = der[at++];
            int length = der[at++];
            if (length > 0x82 || length == 0x80) throw new FormatException();
            if (length > 0x80)
            {
                int digits = length - 0x80;
                if (at + digits > end) throw new FormatException();
                for (length = 0; digits > 0; digits--) length = length * 256 + der[at++];
            }
            until = at + length;
            if (until > end) throw new FormatException();
            return tag;
        }
    }

    static class Digests
    {
        internal static string Sha1(X509Certificate certificate)
        {
            using (SHA1 hash = SHA1.Create()) return Hex(hash.ComputeHash(certificate.GetRawCertData()));
        }

        internal static string Sha256(X509Certificate certificate)
        {
            using (SHA256 hash = SHA256.Create()) return Hex(hash.ComputeHash(certificate.GetRawCertData()));
        }

        static string Hex(byte[] digest)
        {
            return BitConverter.ToString(digest).Replace("-", "").ToLowerInvariant();
        }
    }
}
